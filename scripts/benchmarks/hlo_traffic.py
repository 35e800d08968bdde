"""What the kernels of a compiled XLA program read and write, from its text.

XLA's own cost analysis is empty for a program compiled without its device. Loop bodies count as
often as they run. A buffer of which a kernel gathers or updates a part counts with that part.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

ITEM_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "s16": 2,
    "u16": 2,
    "bf16": 2,
    "f16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}
# No kernel is launched for these, or it was counted where it started.
IDLE = (
    "parameter",
    "get-tuple-element",
    "bitcast",
    "tuple",
    "constant",
    "opt-barrier",
    "after-all",
    "partition-id",
    "replica-id",
)
PARTIAL_READS = ("gather", "dynamic-slice", "slice")
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute")


class Op(NamedTuple):
    """One instruction; `shape` and `attributes` are XLA's text."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @property
    def target(self) -> str:
        """A custom call's function, "" for other instructions."""
        return _attribute(self.attributes, r'custom_call_target="([^"]+)"')

    @property
    def source(self) -> str:
        """The JAX operations it comes from, as a path."""
        return _attribute(self.attributes, r'op_name="([^"]*)"')


class Kernel(NamedTuple):
    """An instruction that runs `times` times a call, with the bytes it touches each time."""

    op: Op
    times: int
    num_bytes: int
    sources: tuple[str, ...]  # of the instruction, and of all that was fused into it


Computation = Mapping[str, Op]


def _attribute(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def _closing(text: str, start: int) -> int:
    """The index after the bracket that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    raise ValueError(f"a bracket is never closed: {text[:80]}")


def _parse_op(line: str) -> Op | None:
    match = re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", line)
    if not match:
        return None
    start = match.end()
    end = _closing(line, start) if line[start] == "(" else line.index(" ", start)
    opcode = re.match(r" ([\w\-]+)\(", line[end:])
    if not opcode:
        raise ValueError(f"an instruction of unknown form: {line.strip()[:120]}")
    first = end + opcode.end() - 1
    last = _closing(line, first)
    operands = tuple(re.findall(r"%([\w.\-]+)", line[first:last]))
    return Op(match[2], line[start:end], opcode[1], operands, line[last:], bool(match[1]))


def parse(text: str) -> tuple[Mapping[str, Computation], str]:
    """Computations by name, and the name of the entry."""
    program: dict[str, dict[str, Op]] = {}
    entry = ""
    current: dict[str, Op] | None = None
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if header:
            current = program.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (op := _parse_op(line)):
            current[op.name] = op
    if not entry:
        raise ValueError("the text holds no ENTRY computation")
    return program, entry


def shape_bytes(shape: str) -> int:
    """Bytes of an array, or of all arrays of a tuple."""
    total = 0
    for dtype, dims in re.findall(r"\b([a-z]\w*)\[([\d,]*)\]", shape):
        size = ITEM_BYTES.get(dtype, 0)
        for dim in filter(None, dims.split(",")):
            size *= int(dim)
        total += size
    return total


def _behind_bitcasts(body: Computation, name: str) -> Op:
    while body[name].opcode == "bitcast":
        name = body[name].operands[0]
    return body[name]


def _bytes_read(body: Computation, parameter: str) -> int:
    """What a fused computation reads of one parameter."""
    whole = shape_bytes(body[parameter].shape)
    pending, touched = [parameter], 0
    while pending:
        name = pending.pop()
        for user in (op for op in body.values() if name in op.operands):
            is_source = user.operands[0] == name and name not in user.operands[1:]
            if user.opcode == "bitcast":
                pending.append(user.name)
            elif is_source and user.opcode in PARTIAL_READS:
                touched += shape_bytes(user.shape)
            elif not (is_source and user.opcode == "dynamic-update-slice"):
                return whole
    return min(whole, touched)


def _bytes_written(body: Computation) -> int:
    (root,) = (op for op in body.values() if op.is_root)
    outputs = root.operands if root.opcode == "tuple" else (root.name,)
    total = 0
    for name in outputs:
        op = _behind_bitcasts(body, name)
        in_place = op.opcode == "dynamic-update-slice"
        total += shape_bytes(body[op.operands[1]].shape if in_place else body[name].shape)
    return total


def _bytes(program: Mapping[str, Computation], computation: Computation, op: Op) -> int:
    operands = [computation[name] for name in op.operands if name in computation]
    if op.opcode == "fusion":
        body = program[_attribute(op.attributes, r"calls=%?([\w.\-]+)")]
        parameters = [name for name, inner in body.items() if inner.opcode == "parameter"]
        return sum(_bytes_read(body, name) for name in parameters) + _bytes_written(body)
    if op.opcode == "dynamic-slice":
        return 2 * shape_bytes(op.shape)
    if op.opcode == "dynamic-update-slice":
        return 2 * shape_bytes(operands[1].shape)
    read = sum(shape_bytes(operand.shape) for operand in operands)
    if op.opcode.endswith("-start"):
        return 2 * read
    if op.opcode == "custom-call" and op.shape.startswith("("):
        # The last of a library call's results is scratch memory, most of it never touched.
        return read + shape_bytes(op.shape[: op.shape.rindex(", ")])
    return read + shape_bytes(op.shape)


def _called(op: Op) -> list[str]:
    """Computations whose kernels are launched one by one, unlike a fusion's."""
    if op.opcode == "conditional":
        names = _attribute(op.attributes, r"branch_computations=\{([^}]*)\}")
        return re.findall(r"[\w.\-]+", names)
    pattern = {"while": "body", "call": "to_apply", "async-start": "calls"}.get(op.opcode)
    return [_attribute(op.attributes, rf"{pattern}=%?([\w.\-]+)")] if pattern else []


def kernels(text: str) -> list[Kernel]:
    """Every kernel that one call of the program launches.

    Raises ValueError on a loop whose number of turns the text does not tell.
    """
    program, entry = parse(text)

    def walk(name: str, times: int) -> Iterator[Kernel]:
        computation = program[name]
        for op in computation.values():
            if op.opcode in IDLE or op.opcode.endswith("-done"):
                continue
            called = _called(op)
            if op.opcode == "while":
                turns = _attribute(op.attributes, r'"known_trip_count":\{"n":"(\d+)"')
                if not turns:
                    raise ValueError(f"the loop {op.name} does not tell its number of turns")
                yield from walk(called[0], times * int(turns))
            elif called:
                for inner in called:
                    yield from walk(inner, times)
            else:
                body = program.get(_attribute(op.attributes, r"calls=%?([\w.\-]+)"), {})
                sources = (op.source, *(inner.source for inner in body.values()))
                yield Kernel(op, times, _bytes(program, computation, op), sources)

    return list(walk(entry, 1))


def collective_of(op: Op) -> str | None:
    """The kind of a collective, whether or not it runs beside others; None for all else."""
    name = op.opcode.removesuffix("-start")
    return name if name in COLLECTIVES else None


def kind_of(op: Op) -> str:
    """A coarse class of kernels, for a table."""
    if op.opcode == "custom-call":
        if "conv" in op.target:
            return "conv kernel gradient" if "BackwardFilter" in op.target else "conv"
        return "matrix product" if "gemm" in op.target else op.target
    if collective_of(op):
        return "collective"
    if op.opcode == "fusion":
        if "__triton" in op.attributes or "kind=kCustom" in op.attributes:
            return "custom fusion"
        return "reduction" if "kind=kInput" in op.attributes else "elementwise"
    return op.opcode


def is_misread_gradient(op: Op, images: int) -> bool:
    """Whether a grouped forward convolution has another batch size than `images`.

    It is then a depthwise kernel's gradient, computed with the batch as channels.
    """
    if op.opcode != "custom-call" or "convForward" not in op.target.replace("BiasActivation", ""):
        return False
    groups = _attribute(op.attributes, r"feature_group_count=(\d+)")
    if not groups or groups == "1":
        return False
    place = _attribute(op.attributes, r"dim_labels=\S+->([a-z0-9?]+)").index("b")
    dims = _attribute(op.shape, r"\[([\d,]+)\]").split(",")
    return int(dims[place]) != images
