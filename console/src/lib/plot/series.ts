/** One colour of a plot: a value for each place on the axis, in their order. */
export interface Series {
  name: string;
  values: number[];
  /** All that had no room of its own, which is drawn in grey. */
  isRest?: boolean;
}

/** As many as there are colours that can be told apart. */
export const mostSeries = 6;

/** Where each series' piece of the stack at `place` begins and ends. */
export function stackAt(series: Series[], place: number): { begin: number; end: number }[] {
  let end = 0;
  return series.map((each) => {
    const begin = end;
    end += each.values[place] ?? 0;
    return { begin, end };
  });
}

/** The height of the highest stack. */
export function highestStack(series: Series[], places: number): number {
  let most = 0;
  for (let place = 0; place < places; ++place) most = Math.max(most, stackAt(series, place).at(-1)?.end ?? 0);
  return most;
}

export function highestValue(series: Series[]): number {
  return series.reduce((most, each) => each.values.reduce((high, value) => Math.max(high, value), most), 0);
}

/** The points of a line through values over places of one width: the attribute of a polyline. */
export function linePoints(values: number[], places: number, width: number, height: number, top: number): string {
  const step = places > 1 ? width / (places - 1) : 0;
  const first = places - values.length; // What was measured last stands at the right.
  return values
    .map((value, at) => `${((first + at) * step).toFixed(1)},${(height - (value / top) * height).toFixed(1)}`)
    .join(" ");
}
