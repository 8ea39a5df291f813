#!/usr/bin/env python3
"""Times weir beside other engines on the same GGUF files, in turns, and prints CSV.

    bench/peers.py --weir build/release/weir --peer NAME BENCH GENERATE
                   [--threads 1,2] [--rounds 5] [--table FILE] MODEL.gguf...

BENCH is a program that takes `-m FILE -t N -p N,.. -n N -r 1 -o json` and prints a list with
n_prompt, n_gen and avg_ts, GENERATE one that takes `-m FILE -t N -c N -n N -p TEXT`; "-" leaves
either out.
--bench-args NAME "ARGS" and --generate-args NAME "ARGS" hand on more; of GENERATE_OPTIONS those are
used that its --help lists. Programs keep to the first N processors of this process for N threads.

Each round runs every engine once on every model with every number of threads, each in a process of
its own: what drifts does so for all. Measured are tokens per second of prefill and decode, the
seconds from the start of the process to the first byte of generated text (which every engine writes
as soon as it has it), and the peak of its resident memory, mapped pages included. With --busy N, N
processes spin all the while, as on a machine that others use too, and programs may use every
processor of this process, whatever their number of threads.

--table writes medians and ratios for a reader: "x" is how many times better weir is than the best
of the others, above 1 where it is ahead.
"""

import argparse
import csv
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time

# Generators differ in what they print around the text, and most warm up unless told not to.
GENERATE_OPTIONS = ["--no-warmup", "-no-cnv", "--no-display-prompt", "--simple-io", "--ignore-eos"]
PROMPT = "a"
MEASURES = {"first_byte": ("s", False), "peak_memory": ("MiB", False)}  # unit, more is better
LIMIT_S = 600


def numbers(text):
    return [int(item) for item in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, usage=argparse.SUPPRESS,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--weir", required=True)
    parser.add_argument("--peer", nargs=3, action="append", default=[])
    parser.add_argument("--bench-args", nargs=2, action="append", default=[])
    parser.add_argument("--generate-args", nargs=2, action="append", default=[])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--prompts", type=numbers, default=[128, 512])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--table")
    return parser.parse_args()


class Pin:
    """What a child does before it starts: it keeps to as many processors as it has threads."""

    apart = True

    def __init__(self, threads):
        processors = sorted(os.sched_getaffinity(0))
        self.processors = processors[:threads] if Pin.apart else processors

    def __call__(self):
        os.sched_setaffinity(0, self.processors)


def run(command, threads):
    """Runs a command and returns what it printed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, preexec_fn=Pin(threads), timeout=LIMIT_S)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: "
                           f"{done.stderr.decode(errors='replace')[-400:]}")
    return done.stdout.decode(errors="replace")


def time_first_byte(command, threads, echo):
    """Returns seconds until the first byte after `echo`, and the peak of the memory in MiB."""
    with tempfile.TemporaryFile() as errors:
        begin = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=errors, preexec_fn=Pin(threads))
        text, first = b"", None
        while True:
            select.select([child.stdout], [], [], LIMIT_S)
            part = os.read(child.stdout.fileno(), 65536)
            text += part
            if first is None and len(text) > (len(echo) if text.startswith(echo) else 0):
                first = time.monotonic() - begin
            if not part:
                break
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0 or first is None:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-400:]
            raise RuntimeError(f"{' '.join(command)}: exit code {child.returncode}, "
                               f"{len(text)} bytes: {said}")
    return {"first_byte": first, "peak_memory": usage.ru_maxrss / 1024}


class Weir:
    def __init__(self, program):
        self.name, self.program = "weir", program

    def bench(self, arguments, model, threads):
        rows = max(arguments.prompts)
        text = run([self.program, "bench", model, "--threads", str(threads), "--rounds", "1",
                    "--prompts", ",".join(map(str, arguments.prompts)), "-n",
                    str(arguments.tokens), "--rows", str(rows), "--format", "json"], threads)
        measures = json.loads(text)["cases"][0]["measures"]
        return {name: measure["median"] for name, measure in measures.items()
                if name.startswith("prefill_") or name in ("decode", "ceiling", "share")}

    def generate(self, arguments, model, threads):
        command = [self.program, "run", model, "-p", PROMPT, "-n", "16", "--ignore-end",
                   "--context", str(arguments.context), "--threads", str(threads)]
        return time_first_byte(command, threads, PROMPT.encode())


class Peer:
    def __init__(self, arguments, name, bench, generate):
        self.name, self.bench_program, self.generate_program = name, bench, generate
        self.bench_args = [a for n, text in arguments.bench_args if n == name for a in text.split()]
        self.generate_args = [a for n, text in arguments.generate_args if n == name
                              for a in text.split()]
        if generate != "-":
            shown = subprocess.run([generate, "--help"], capture_output=True, check=False)
            listed = set((shown.stdout + shown.stderr).decode(errors="replace")
                         .replace(",", " ").split())
            self.generate_args += [o for o in GENERATE_OPTIONS if o in listed]

    def bench(self, arguments, model, threads):
        if self.bench_program == "-":
            return {}
        text = run([self.bench_program, "-m", model, "-t", str(threads), "-r", "1", "-o", "json",
                    "-p", ",".join(map(str, arguments.prompts)), "-n", str(arguments.tokens),
                    *self.bench_args], threads)
        results = json.loads(text)
        return {f"prefill_{r['n_prompt']}" if r["n_gen"] == 0 else "decode": r["avg_ts"]
                for r in results if r["n_gen"] == 0 or r["n_prompt"] == 0}

    def generate(self, arguments, model, threads):
        if self.generate_program == "-":
            return {}
        command = [self.generate_program, "-m", model, "-p", PROMPT, "-n", "16", "-c",
                   str(arguments.context), "-t", str(threads), *self.generate_args]
        return time_first_byte(command, threads, PROMPT.encode())


def spin(count):
    """Starts processes that do nothing but take time."""
    return [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]


def measure(arguments, engines, samples):
    for turn in range(arguments.rounds):
        for model in arguments.models:
            for threads in arguments.threads:
                for engine in engines:
                    begin = time.monotonic()
                    found = engine.bench(arguments, model, threads)
                    found.update(engine.generate(arguments, model, threads))
                    for name, value in found.items():
                        key = (model, threads, name, engine.name)
                        samples.setdefault(key, []).append(value)
                    print(f"round {turn + 1}: {os.path.basename(model)}, {threads} threads, "
                          f"{engine.name}: {time.monotonic() - begin:.1f} s", file=sys.stderr)


def describe(name):
    if name in MEASURES:
        return MEASURES[name]
    return {"ceiling": "GB/s", "share": "%"}.get(name, "tokens/s"), True


def print_csv(samples):
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["model", "threads", "measure", "unit", "engine", "median", "low", "high",
                     "rounds"])
    for (model, threads, name, engine), values in samples.items():
        writer.writerow([os.path.basename(model), threads, name, describe(name)[0], engine,
                         *(f"{v:.6g}" for v in (statistics.median(values), min(values),
                                                max(values))), len(values)])


def write_table(path, samples, engines):
    names = [engine.name for engine in engines]
    medians = {key: statistics.median(values) for key, values in samples.items()}
    cases = dict.fromkeys(key[:3] for key in samples)
    with open(path, "w", encoding="utf-8") as file:
        print(f"{'model':28}{'threads':>8} {'measure':14}{'unit':10}"
              + "".join(f"{name:>14}" for name in names) + f"{'x':>8}", file=file)
        for case in cases:
            unit, more_is_better = describe(case[2])
            values = [medians.get((*case, name)) for name in names]
            others = [v for v in values[1:] if v is not None]
            ratio = ""
            if values[0] and others:
                best = max(others) if more_is_better else min(others)
                ratio = f"{values[0] / best if more_is_better else best / values[0]:.2f}"
            print(f"{os.path.basename(case[0])[:27]:28}{case[1]:8} {case[2]:14}{unit:10}"
                  + "".join(f"{'-' if v is None else format(v, '.4g'):>14}" for v in values)
                  + f"{ratio:>8}", file=file)


def main():
    arguments = parse_arguments()
    engines = [Weir(arguments.weir)] + [Peer(arguments, *peer) for peer in arguments.peer]
    samples = {}
    Pin.apart = arguments.busy == 0
    spinners = spin(arguments.busy)
    try:
        measure(arguments, engines, samples)
    except KeyboardInterrupt:
        print("interrupted: what was measured until here follows", file=sys.stderr)
    finally:
        for spinner in spinners:
            spinner.send_signal(signal.SIGKILL)
            spinner.wait()
    print_csv(samples)
    if arguments.table:
        write_table(arguments.table, samples, engines)


if __name__ == "__main__":
    main()
