#!/usr/bin/env python3
"""Draws the growth of the planner's time with the number of buffers, both in powers of ten.

    bench_plan --growth 1000000 --modes place >growth.csv
    bench/plan_plot.py <growth.csv >growth.svg
"""

import csv
import math
import sys

WIDTH, HEIGHT, MARGIN = 720, 480, 70
COLOURS = ["#0066cc", "#cc3300", "#228833", "#aa3377", "#777777"]


def read_lines(file):
    """Returns {mode and lives: [(buffers, seconds)]} of the generated problems."""
    lines = {}
    for row in csv.DictReader(file):
        if row["instance"].startswith("generated") and row["status"] == "ok":
            point = (int(row["buffers"]), float(row["median_s"]))
            shape = row["instance"].split("-")[1]
            lives = "mixed" if shape.isdigit() else shape
            lines.setdefault(f"{row['mode']}, {lives} lives", []).append(point)
    return {mode: sorted(points) for mode, points in lines.items()}


def powers(values):
    """Returns the powers of ten around the values, at least two."""
    low = math.floor(math.log10(min(values)))
    return low, max(math.ceil(math.log10(max(values))), low + 1)


def draw(lines):
    x_low, x_high = powers([n for points in lines.values() for n, _ in points])
    y_low, y_high = powers([s for points in lines.values() for _, s in points])

    def x_of(n):
        return MARGIN + (math.log10(n) - x_low) / (x_high - x_low) * (WIDTH - 2 * MARGIN)

    def y_of(seconds):
        share = (math.log10(seconds) - y_low) / (y_high - y_low)
        return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="sans-serif" font-size="13">',
           '<rect width="100%" height="100%" fill="#ffffff"/>']
    for power in range(x_low, x_high + 1):
        x = x_of(10 ** power)
        out.append(f'<path d="M{x:.1f} {MARGIN}V{HEIGHT - MARGIN}" stroke="#dddddd"/>'
                   f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 20}" text-anchor="middle">'
                   f'{10 ** power:,}</text>')
    for power in range(y_low, y_high + 1):
        y = y_of(10.0 ** power)
        out.append(f'<path d="M{MARGIN} {y:.1f}H{WIDTH - MARGIN}" stroke="#dddddd"/>'
                   f'<text x="{MARGIN - 8}" y="{y + 4:.1f}" text-anchor="end">'
                   f'{10.0 ** power:g} s</text>')
    for i, (mode, points) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = "L".join(f"{x_of(n):.1f} {y_of(s):.1f}" for n, s in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
                   f'<text x="{MARGIN + 10}" y="{MARGIN + 18 * (i + 1)}" fill="{colour}">'
                   f'{mode}</text>')
    out.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 15}" text-anchor="middle">buffers</text>')
    out.append("</svg>")
    return "\n".join(out)


def main():
    lines = read_lines(sys.stdin)
    if not lines:
        sys.exit("no generated problems in the input")
    print(draw(lines))


if __name__ == "__main__":
    main()
