"""The reader of compiled programs, on small ones written by hand."""

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[3] / "scripts" / "benchmarks"
if not BENCH.is_dir():
    pytest.skip("the source tree is not beside", allow_module_level=True)
sys.path.insert(0, str(BENCH))
import hlo_traffic  # noqa: E402

PROGRAM = """\
HloModule jit_train_steps, is_scheduled=true

%fused_gather (param_0.1: u8[100,64], param_1.1: s32[8]) -> u8[8,64] {
  %param_0.1 = u8[100,64]{1,0} parameter(0)
  %bitcast.9 = u8[100,64]{1,0} bitcast(%param_0.1)
  %param_1.1 = s32[8]{0} parameter(1)
  ROOT %gather.1 = u8[8,64]{1,0} gather(%bitcast.9, %param_1.1), metadata={op_name="f/augment"}
}

%fused_update (param_0.2: f32[10,4], param_1.2: f32[4], param_2.2: s32[]) -> f32[10,4] {
  %param_0.2 = f32[10,4]{1,0} parameter(0)
  %param_1.2 = f32[4]{0} parameter(1)
  %param_2.2 = s32[] parameter(2)
  %bitcast.2 = f32[1,4]{1,0} bitcast(%param_1.2)
  ROOT %update.2 = f32[10,4]{1,0} dynamic-update-slice(%param_0.2, %bitcast.2, %param_2.2)
}

%body (arg: (s32[], u8[100,64], s32[8])) -> (s32[], u8[100,64], s32[8]) {
  %arg = (s32[], u8[100,64]{1,0}, /*index=2*/s32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %images = u8[100,64]{1,0} get-tuple-element(%arg), index=1
  %rows = s32[8]{0} get-tuple-element(%arg), index=2
  %picked = u8[8,64]{1,0} fusion(%images, %rows), kind=kLoop, calls=%fused_gather
  ROOT %next = (s32[], u8[100,64]{1,0}, s32[8]{0}) tuple(%i, %images, %rows)
}

%condition (arg.1: (s32[], u8[100,64], s32[8])) -> pred[] {
  %arg.1 = (s32[], u8[100,64]{1,0}, s32[8]{0}) parameter(0)
  ROOT %true = pred[] constant(true)
}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%launched (p: f32[10,4]) -> f32[10,4] {
  %p = f32[10,4]{1,0} parameter(0)
  ROOT %copied = f32[10,4]{1,0} copy(%p)
}

ENTRY %main (a: (s32[], u8[100,64], s32[8]), b: f32[10,4], c: f32[4], i.1: s32[]) -> f32[10,4] {
  %a = (s32[], u8[100,64]{1,0}, s32[8]{0}) parameter(0)
  %b = f32[10,4]{1,0} parameter(1)
  %c = f32[4]{0} parameter(2)
  %i.1 = s32[] parameter(3)
  %loop = (s32[], u8[100,64]{1,0}, s32[8]{0}) while(%a), body=%body, TURNS
  %updated = f32[10,4]{1,0} fusion(%b, %c, %i.1), kind=kLoop, calls=%fused_update
  %summed = f32[10,4]{1,0} all-reduce-start(%updated), replica_groups={}, to_apply=%add
  %done = f32[10,4]{1,0} all-reduce-done(%summed)
  %product = (f32[10,4]{1,0}, s8[33554432]{0}) custom-call(%done), custom_call_target="gemm"
  %first = f32[10,4]{1,0} get-tuple-element(%product), index=0
  ROOT %called = f32[10,4]{1,0} call(%first), to_apply=%launched
}
""".replace("TURNS", 'backend_config={"known_trip_count":{"n":"10"}}')
CONV = (
    "HloModule m\n\nENTRY %main (x: bf16[{x}], w: bf16[{w}]) -> bf16[{y}] {{\n"
    "  %x = bf16[{x}]{{3,2,1,0}} parameter(0)\n  %w = bf16[{w}]{{3,2,1,0}} parameter(1)\n"
    "  ROOT %c = (bf16[{y}]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%x, %w), "
    "window={{size={window}}}, dim_labels=b01f_01io->b01f, feature_group_count=1152, "
    'custom_call_target="__cudnn$conv{kind}"\n}}\n'
)


def bytes_by_name(text: str) -> dict[str, tuple[int, int]]:
    return {
        kernel.op.name: (kernel.times, kernel.num_bytes) for kernel in hlo_traffic.kernels(text)
    }


def test_every_kernel_counts_as_often_as_it_runs_and_with_the_bytes_it_touches() -> None:
    assert bytes_by_name(PROGRAM) == {
        "picked": (10, 8 * 64 + 8 * 4 + 8 * 64),  # rows that are gathered, not all 100
        "updated": (1, 16 + 4 + 16),  # one row of ten
        "summed": (1, 2 * 160),  # counted where it starts
        "product": (1, 2 * 160),  # without the library's scratch memory
        "copied": (1, 2 * 160),  # inside a called computation
    }


def test_what_was_fused_into_a_kernel_is_among_its_sources() -> None:
    (picked,) = (k for k in hlo_traffic.kernels(PROGRAM) if k.op.name == "picked")
    assert any("augment" in source for source in picked.sources)


def test_a_loop_of_unknown_length_is_refused() -> None:
    with pytest.raises(ValueError, match="the loop loop does not tell its number of turns"):
        hlo_traffic.kernels(PROGRAM.replace("known_trip_count", "unknown"))


def test_a_text_without_an_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo_traffic.kernels("HloModule empty")


@pytest.mark.parametrize(
    ("shapes", "kind", "is_misread"),
    [
        (("64,2,2,1152", "5,5,1,1152", "64,2,2,1152"), "Forward", False),
        (("1152,2,2,64", "2,2,64,1152", "1,5,5,1152"), "Forward", True),
        (("64,4,4,1152", "5,5,1,1152", "5,5,1,1152"), "BackwardFilter", False),
    ],
)
def test_a_kernels_gradient_with_the_batch_for_channels_is_seen(
    shapes: tuple[str, str, str], kind: str, is_misread: bool
) -> None:
    x, w, y = shapes
    (kernel,) = hlo_traffic.kernels(CONV.format(x=x, w=w, y=y, kind=kind, window="2x2"))
    assert hlo_traffic.is_misread_gradient(kernel.op, images=64) is is_misread


@pytest.mark.parametrize(
    ("shape", "num_bytes"),
    [("bf16[2,3]{1,0}", 12), ("(f32[4], /*index=1*/(u8[3], pred[]))", 20), ("token[]", 0)],
)
def test_shapes_have_the_bytes_of_all_their_arrays(shape: str, num_bytes: int) -> None:
    assert hlo_traffic.shape_bytes(shape) == num_bytes
