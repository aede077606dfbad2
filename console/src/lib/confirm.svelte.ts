export interface Question {
  title: string;
  text: string;
  action: string; // what the button says
  isDangerous?: boolean;
}

class Confirmation {
  asked = $state.raw<Question | undefined>(undefined);
  private settle: (answer: boolean) => void = () => {};

  ask(question: Question): Promise<boolean> {
    this.answer(false);
    this.asked = question;
    return new Promise((resolve) => (this.settle = resolve));
  }

  answer(answer: boolean): void {
    this.asked = undefined;
    this.settle(answer);
    this.settle = () => {};
  }
}

export const confirmation = new Confirmation();

/** Asks in a dialog; whether the person wants it. */
export function confirm(question: Question): Promise<boolean> {
  return confirmation.ask(question);
}
