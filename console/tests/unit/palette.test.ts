import { expect, test } from "@playwright/test";
import { readFileSync } from "node:fs";

type Colour = [number, number, number];

// Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency" (2009),
// for people without one kind of cone; on linear RGB.
const eyes: Record<string, Colour[]> = {
  usual: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protan: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deutan: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritan: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

function linear(hex: string): Colour {
  const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
  return parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)) as Colour;
}

function dot(row: Colour, [r, g, b]: Colour): number {
  return row[0] * r + row[1] * g + row[2] * b;
}

/** OKLab, in which distances are about as large as they look. */
function perceived(colour: Colour): Colour {
  const inGamut = colour.map((part) => Math.min(1, Math.max(0, part))) as Colour;
  const cones = [
    dot([0.4122214708, 0.5363325363, 0.0514459929], inGamut),
    dot([0.2119034982, 0.6806995451, 0.1073969566], inGamut),
    dot([0.0883024619, 0.2817188376, 0.6299787005], inGamut),
  ].map(Math.cbrt) as Colour;
  return [
    dot([0.2104542553, 0.793617785, -0.0040720468], cones),
    dot([1.9779984951, -2.428592205, 0.4505937099], cones),
    dot([0.0259040371, 0.7827717662, -0.808675766], cones),
  ];
}

function contrast(one: string, other: string): number {
  const [low, high] = [one, other].map((hex) => dot([0.2126, 0.7152, 0.0722], linear(hex))).sort((a, b) => a - b);
  return (high! + 0.05) / (low! + 0.05);
}

const sheet = readFileSync(new URL("../../src/console.css", import.meta.url), "utf8");

function token(name: string, theme: "light" | "dark"): string {
  const found = new RegExp(`--${name}: light-dark\\((#\\w{6}), (#\\w{6})\\)`).exec(sheet);
  expect(found, `--${name} in console.css`).not.toBeNull();
  return found![theme === "light" ? 1 : 2]!;
}

for (const theme of ["light", "dark"] as const) {
  const names = ["series-1", "series-2", "series-3", "series-4", "series-5", "series-6", "series-rest"];

  test(`each colour of a plot stands out from the ground: ${theme}`, () => {
    for (const name of names.slice(0, -1)) {
      expect(contrast(token(name, theme), token("surface", theme)), name).toBeGreaterThanOrEqual(3);
    }
  });

  for (const [eye, rows] of Object.entries(eyes)) {
    test(`no two colours of a plot look alike: ${theme}, ${eye}`, () => {
      const seen = names.map((name) => {
        const colour = linear(token(name, theme));
        return perceived(rows.map((row) => dot(row, colour)) as Colour);
      });
      seen.forEach((one, at) => {
        for (const [further, other] of seen.slice(at + 1).entries()) {
          const pair = `${names[at]} and ${names[at + 1 + further]}`;
          expect(Math.hypot(...one.map((part, axis) => part - other[axis]!)), pair).toBeGreaterThan(0.09);
        }
      });
    });
  }
}
