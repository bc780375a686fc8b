"""The main loop of a kernel in its machine code, and how many instructions a turn takes.

The main loop is the smallest that has the kernel's tensor-core instructions. A turn takes the way from its head to its
end that passes most blocks with instructions of :data:`WORK`, and of those ways the shortest: code around which a turn
can jump and that neither loads, stores nor multiplies is not counted, and an inner loop counts once.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,6})\*/\s+([^;]+?)\s*;")
#: Tensor cores, shared memory, global memory.
WORK = ("HMMA", "LDS", "STS", "ATOMS", "LDG", "STG", "LDGSTS")
LEAVES = ("EXIT", "RET", "BRX", "JMP")


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly."""

    address: int
    predicated: bool
    name: str  # with its suffixes
    target: int | None  # of a branch

    @property
    def kind(self) -> str:
        """The name without suffixes."""
        return self.name.partition(".")[0]


def instructions(code: str) -> list[Instruction]:
    """Of one function."""
    found = []
    for address, text in INSTRUCTION.findall(code):
        words = text.split()
        predicated = words[0].startswith("@")
        name = words[1] if predicated else words[0]
        target = re.search(r"0x([0-9a-f]+)$", text) if name.startswith("BRA") else None
        # A branch may have its condition as an operand, too: "BRA.U UP0, ..."
        conditional = predicated or (target is not None and "," in text) or name.startswith("BRA.DIV")
        found.append(Instruction(int(address, 16), conditional, name, int(target[1], 16) if target else None))
    return found


@dataclass
class Block:
    """Instructions that run one after another."""

    body: list[Instruction] = field(default_factory=list)
    after: list[int] = field(default_factory=list)  # blocks, by number


def blocks_of(code: list[Instruction]) -> list[Block]:
    """The function's blocks in the order of their addresses."""
    starts = {code[0].address} | {one.target for one in code if one.target is not None}
    for one, following in pairwise(code):
        if one.target is not None or one.kind in LEAVES:
            starts.add(following.address)
    blocks: list[Block] = []
    number_at: dict[int, int] = {}
    for one in code:
        if one.address in starts:
            number_at[one.address] = len(blocks)
            blocks.append(Block())
        blocks[-1].body.append(one)
    for number, block in enumerate(blocks):
        last = block.body[-1]
        if last.target is not None and last.target in number_at:
            block.after.append(number_at[last.target])
        goes_on = (last.target is None and last.kind not in LEAVES) or last.predicated
        if goes_on and number + 1 < len(blocks):
            block.after.append(number + 1)
    return blocks


def loops_of(blocks: list[Block]) -> list[tuple[int, int, set[int]]]:
    """Head, end and blocks of every natural loop: what reaches the jump back without passing the head."""
    before: dict[int, set[int]] = {number: set() for number in range(len(blocks))}
    for number, block in enumerate(blocks):
        for following in block.after:
            before[following].add(number)
    found = []
    for end, block in enumerate(blocks):
        for head in block.after:
            if blocks[head].body[0].address > block.body[-1].address:
                continue
            inside, open_ones = {head}, [end]
            while open_ones:
                number = open_ones.pop()
                if number not in inside:
                    inside.add(number)
                    open_ones += before[number]
            found.append((head, end, inside))
    return found


def _count(blocks: list[Block], numbers: set[int] | list[int], kinds: tuple[str, ...]) -> int:
    return sum(one.kind in kinds for number in numbers for one in blocks[number].body)


def _order(blocks: list[Block], inside: set[int], head: int) -> list[int]:
    """The loop's blocks so that each comes after those that lead to it, jumps back left out."""
    done: list[int] = []
    seen: set[int] = set()

    def visit(number: int) -> None:
        stack = [(number, iter(blocks[number].after))]
        seen.add(number)
        while stack:
            at, remaining = stack[-1]
            following = next(remaining, None)
            if following is None:
                done.append(at)
                stack.pop()
            elif following in inside and following not in seen:
                seen.add(following)
                stack.append((following, iter(blocks[following].after)))

    visit(head)
    return done[::-1]


def turn_of(blocks: list[Block], head: int, end: int, inside: set[int]) -> list[int]:
    """The blocks of the way from head to end that passes most blocks with work; of those ways, the shortest."""
    before: dict[int, list[int]] = {number: [] for number in inside}
    best: dict[int, tuple[int, int, list[int]]] = {}
    for number in _order(blocks, inside, head):
        ways = [best[other] for other in before[number] if other in best]
        works, size, way = max(ways, key=lambda w: (w[0], -w[1]), default=(0, 0, []))
        has_work = _count(blocks, [number], WORK) > 0
        best[number] = (works + has_work, size + len(blocks[number].body), [*way, number])
        for following in blocks[number].after:
            if following in inside:
                before[following].append(number)
    return best[end][2]


@dataclass(frozen=True)
class Turn:
    """One turn of a kernel's main loop, by instructions' names with their suffixes."""

    names: Counter[str]

    @property
    def instructions(self) -> int:
        """All but those that do nothing."""
        return sum(count for name, count in self.names.items() if name != "NOP")

    def bits(self, kind: str, *suffixes: str) -> int:
        """That a thread's loads or stores of a kind move, those with all of the suffixes."""
        return sum(
            count * width_of(name)
            for name, count in self.names.items()
            if name.partition(".")[0] == kind and set(suffixes) <= set(name.split("."))
        )


def width_of(name: str) -> int:
    """Bits of a load or store of one thread.

    >>> width_of("LDG.E.NA.128.CONSTANT"), width_of("LDS.U16"), width_of("STS")
    (128, 16, 32)
    """
    widths = {"8": 8, "16": 16, "64": 64, "128": 128}
    return next((widths[part.lstrip("US")] for part in name.split(".") if part.lstrip("US") in widths), 32)


def main_loop(code: str) -> Turn | None:
    """None where no loop has tensor-core instructions."""
    blocks = blocks_of(instructions(code))
    multiplying = {loop[:2]: (_count(blocks, loop[2], ("HMMA",)), loop[2]) for loop in loops_of(blocks)}
    most = max((count for count, _ in multiplying.values()), default=0)
    if most == 0:
        return None
    candidates = {ends: inside for ends, (count, inside) in multiplying.items() if count == most}
    head, end = min(candidates, key=lambda ends: len(candidates[ends]))
    taken = turn_of(blocks, head, end, candidates[head, end])
    return Turn(Counter(one.name for number in taken for one in blocks[number].body))
