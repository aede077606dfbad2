// Where the marks of a plot go. All plots of the console begin at zero, or a small difference would look large.
import { nice, ticks } from "d3-array";

export interface Scale {
  /** The value at the upper edge, which is one of the ticks; above 0. */
  top: number;
  ticks: number[];
}

/** A scale from 0 to at least `most`, with about `wanted` steps; whole numbers alone where the values are counts. */
export function scaleTo(most: number, wanted: number, isCount = false): Scale {
  const needed = most > 0 ? most : 1;
  if (isCount && needed <= wanted) {
    const top = Math.ceil(needed);
    return { top, ticks: Array.from({ length: top + 1 }, (_, at) => at) };
  }
  const [, top] = nice(0, needed, wanted);
  const all = ticks(0, top, wanted);
  return { top, ticks: isCount ? all.filter(Number.isInteger) : all };
}

/** Every how many of `count` labels there is room for one, each of which needs `labelWidth` of `width`. */
export function labelStep(count: number, width: number, labelWidth: number): number {
  const room = Math.max(1, Math.floor(width / labelWidth));
  return Math.max(1, Math.ceil(count / room));
}

/** Which of `count` places of one width is nearest to `x`, from 0 to `width`. */
export function placeAt(x: number, width: number, count: number): number {
  return Math.max(0, Math.min(count - 1, Math.floor((x / Math.max(width, 1)) * count)));
}

/** The place that a key leads to from one of `count`; undefined for keys that mean nothing here. */
export function placeByKey(key: string, from: number, count: number): number | undefined {
  const steps: Record<string, number> = {
    ArrowRight: from + 1,
    ArrowUp: from + 1,
    ArrowLeft: from - 1,
    ArrowDown: from - 1,
    PageUp: from + 7,
    PageDown: from - 7,
    Home: 0,
    End: count - 1,
  };
  const to = steps[key];
  return to === undefined ? undefined : Math.max(0, Math.min(count - 1, to));
}
