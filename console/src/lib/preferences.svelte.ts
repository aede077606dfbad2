// What a person has chosen for this browser.

export type Theme = "system" | "light" | "dark";
export const themes = ["system", "light", "dark"] as const;
export type Language = "en" | "zh";
export const languages = ["en", "zh"] as const;
export type ChatPlace = "server" | "browser";

function stored<Value extends string>(key: string, allowed: readonly Value[], fallback: Value): Value {
  let value: string | null = null;
  try {
    value = localStorage.getItem(`ridge.${key}`);
  } catch {
    // A browser that keeps nothing: every visit begins with what the system prefers.
  }
  return allowed.find((each) => each === value) ?? fallback;
}

function store(key: string, value: string): void {
  try {
    localStorage.setItem(`ridge.${key}`, value);
  } catch {
    // As above.
  }
}

function ownLanguage(): Language {
  return /^zh\b/i.test(navigator.language) ? "zh" : "en";
}

class Preferences {
  theme = $state<Theme>(stored("theme", themes, "system"));
  language = $state<Language>(stored("language", languages, ownLanguage()));
  keepsChats = $state<ChatPlace>(stored<ChatPlace>("keeps_chats", ["server", "browser"], "browser"));

  /** Follows the choices: in the document, and for the next visit. To be called while a component is set up. */
  apply(): void {
    $effect(() => {
      document.documentElement.dataset["theme"] = this.theme;
      document.documentElement.lang = this.language === "zh" ? "zh-CN" : "en";
      store("theme", this.theme);
      store("language", this.language);
      store("keeps_chats", this.keepsChats);
    });
  }
}

export const preferences = new Preferences();
