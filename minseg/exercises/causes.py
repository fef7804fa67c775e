"""What a finding of the sanitizer usually comes from, in a learner's words."""

import re
from pathlib import Path

from minseg.emulator.findings import Finding

Cause = tuple[str, str]  # the name of the mistake, and what to do about it

# By the finding's kind; the most telling kind first.
CAUSES: dict[str, Cause] = {
    "timeout": ("endless loop", "Does its variable change, and does its condition ever become "
                "false? (Half of 0 is 0.)"),
    "memcheck": ("missing guard", "A thread reaches outside of an array. The last blocks hang over "
                 "the edge: is there an `if` for rows *and* columns? Or the index is wrong: does "
                 "it go one too far, or is a row longer than this array's rows?"),
    "synccheck": ("barrier in a branch", "Some threads of the block never reach this barrier. Put "
                  "no __syncthreads() inside of an `if`, nor after a `return` that some threads "
                  "take."),
    "racecheck": ("missing barrier", "Threads access one element with no __syncthreads() between "
                  "them: is there one after the shared memory was filled, before others read it? A "
                  "loop needs one more: after all have read, before it is filled again. (The lanes "
                  "of a warp do not run in step either; a __syncwarp() orders them.)"),
    "initcheck": ("read before written", "Something is read that nothing wrote. An output has no "
                  "values at the beginning: add up in a variable, and write once."),
    "order": ("order of threads", "The result depends on which thread runs first. Has a variable "
              "no value at the beginning (`float sum;`), or does a thread not wait for another?"),
}  # fmt: skip
SHARED: Cause = (
    "outside of shared memory",
    "A thread reaches outside of a shared array, into what lies beside it: is the array declared "
    "as large as the indices go?",
)
NOT_FILLED: Cause = (
    "not filled",
    "A place of shared memory is read that no thread has filled. Each place needs a thread that "
    "writes its value, even where that is just a 0 (beyond the edge).",
)
NOTHING: Cause = (
    "nothing written",
    "No thread writes to it. Is there a line that does, and does its `if` let anyone through?",
)
GAPS: Cause = (
    "gaps in the output",
    "No thread writes these elements. Does every element have its thread, the last ones too? "
    "The launch line says what blockIdx.x counts.",
)
LANES: Cause = (
    "missing lanes",
    "A shuffle or a __syncwarp() waits for the lanes that its mask names (all 32, if you name "
    "none): each has to reach it, and none may be left out by an `if`. And a shuffle gets nothing "
    "from a lane that has returned: a lane without work can stay, and contribute a 0.",
)
BETWEEN_BLOCKS: Cause = (
    "race between blocks",
    "Two blocks access one element, and nothing orders blocks. Does each find its own place, by "
    "blockIdx? For a sum over blocks use atomicAdd; what one block reads, no other may overwrite.",
)
NOT_ATOMIC: Cause = (
    "update not atomic",
    "An addition in memory reads, adds and writes. If two threads read the same old value, the one "
    "that writes last overwrites the other's sum: atomicAdd does all three in one go.",
)
IN_GLOBAL: Cause = (
    "race in global memory",
    "One thread reads what another writes. If both add to it, both read the same old value, and "
    "one sum is lost: atomicAdd reads, adds and writes in one go. If one needs what the other has "
    "written, put a __syncthreads() between them (in a block; nothing orders blocks).",
)
BOTH_WRITE: Cause = (
    "several write one element",
    "Two threads write the same element, and the last one wins, whichever it is. Each has to write "
    "its own (is a row as long as this array's rows are?), or only one of them writes "
    "(`if (threadIdx.x == 0)`).",
)


def explain(findings: list[Finding], kernel: Path) -> Cause:
    """The cause behind the most telling of the findings, and the finding with its advice."""
    if not findings:
        return "no answer", "It did not finish."
    order = list(CAUSES)
    finding = min(findings, key=lambda f: order.index(f.kind) if f.kind in order else -1)
    name, advice = _cause(finding, kernel)
    return name, f"The sanitizer says: {finding}\n  {advice}".rstrip()


def _cause(finding: Finding, kernel: Path) -> Cause:
    now, before = finding.now, finding.before
    if finding.kind == "memcheck" and "in shared memory" in finding.message:
        return SHARED
    if finding.kind == "initcheck" and "never written" in finding.message:
        return NOTHING if re.search(r"\b(\d+) of \1 elements", finding.message) else GAPS
    if finding.kind == "initcheck" and "in shared memory" in finding.message:
        return NOT_FILLED
    if finding.kind == "synccheck" and "lane" in finding.message:
        return LANES
    if finding.kind == "racecheck" and now and before:
        if now.block != before.block:
            return BETWEEN_BLOCKS
        if now.line == before.line and _updates(kernel, now.line, finding.variable):
            return NOT_ATOMIC
        if now.does == before.does == "writes":
            return BOTH_WRITE
        if "in global memory" in finding.message:
            return IN_GLOBAL
    return CAUSES.get(finding.kind, (finding.kind, ""))


def _updates(kernel: Path, line: int, variable: str) -> bool:
    """Is it `variable[..]++`, `+= ...`, or `= variable[..] + ...` where all mean the same element?

    `values[t] += values[t + 1]` is another thing: there one reads what another's own is.
    """
    lines = kernel.read_text("utf-8-sig").splitlines()
    code = lines[line - 1].partition("//")[0] if 0 < line <= len(lines) else ""
    if re.search(rf"\b{variable}\[\d+\] *[-+*/|&^]=", code):
        return True
    place = rf"\b{variable}\b(?:\[(?:[^][]|\[[^][]*\])*\])*"  # with its indices
    update = rf"{place}\)? *(\+\+|--|[-+*/|&^]=)|(\+\+|--){place}|({place}) *=[^=].*\3"
    alone = len(set(re.findall(place, code))) == 1
    return alone and re.search(update, code) is not None
