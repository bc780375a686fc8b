"""What a launch may ask for, on each device; and what depends on the device and on the seed."""

from __future__ import annotations

import numpy as np
import pytest
from emulator import DEVICES, compiler
from toys import Toy, reads, updates, writes

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs g++")

TRANSPOSE = "launch(transpose, dim3((columns + 31) / 32, (rows + 31) / 32), dim3(32, 8), 32 * pitch"


def transpose(toy: Toy, seed: int = 0) -> None:
    result, matrix = np.ones((2, 33), np.float32)  # one right behind the other
    toy.run((33, 1), [reads(matrix), writes(result)], seed)


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        ("launch(transpose, dim3(1, 1), dim3(32, 33), 32 * pitch", "transpose.*: blocks of 1056 threads"),
        ("launch(transpose, dim3(1, 1), dim3(1, 1, 65), 32 * pitch", "blocks of 65 threads"),
        ("launch(transpose, dim3(1, 1), dim3(0), 32 * pitch", "blocks of 0 threads"),
        ("launch(transpose, dim3(0, 1), dim3(32, 8), 32 * pitch", "a grid of 0 x 1 x 1 blocks"),
        ("launch(transpose, dim3(1, 65536), dim3(32, 8), 32 * pitch", "a grid of 1 x 65536 x 1 blocks"),
    ],
)
def test_a_configuration_that_no_device_takes_is_refused(launch: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        transpose(Toy("transpose", (TRANSPOSE, launch)))


@pytest.mark.parametrize("architecture", DEVICES)
def test_shared_memory_is_what_the_device_has(architecture: int) -> None:
    most = DEVICES[architecture].shared_bytes_per_block
    for asked, refused in ((most, False), (most + 1, True)):
        toy = Toy("transpose", (TRANSPOSE, TRANSPOSE.replace("32 * pitch", str(asked))))
        with toy.emulator.device(DEVICES[architecture]):
            if refused:
                with pytest.raises(
                    RuntimeError, match=f"{asked} bytes of shared memory are more than the device's {most}"
                ):
                    transpose(toy)
            else:
                transpose(toy)


def test_an_error_names_kernel_block_and_thread() -> None:
    place = r"deformwarp::cuda::transpose\(.*\), block \(0, 1, 0\), thread \(0, 0, 0\) \(0\): "
    change = (
        "global_store(p.out + (column + i) * p.rows + row",
        "global_store(p.out + (column + i) * p.rows + 2 * row",
    )
    with pytest.raises(RuntimeError, match=place + "out of bounds: 124 bytes behind the nearest buffer's end"):
        transpose(Toy("transpose", change))


def test_a_launch_after_an_error_is_sound() -> None:
    toy = Toy("reduction", ("if (lane == 0) shared_store(warp_sums", "if (lane == p.size) shared_store(warp_sums"))
    values, total = np.ones(100, np.float32), np.empty(1, np.float32)

    def run(size: int) -> None:
        buffers = [reads(values), writes(np.empty(1, np.float32)), updates(np.zeros(1, np.uint32)), writes(total)]
        toy.run([size, 1], buffers)

    for _ in range(2):
        with pytest.raises(RuntimeError, match="never written"):
            run(100)
        run(0)
        assert total[0] == 0


@pytest.mark.parametrize("architecture", [75, 90])
def test_a_copy_is_asynchronous_where_the_device_has_the_instruction(architecture: int) -> None:
    toy = Toy("product", ("    copy_async_wait<1>();\n", ""))
    a, b, d = np.ones((32, 16), np.float16), np.ones((8, 16), np.float16), np.empty((32, 8), np.float32)
    with toy.emulator.device(DEVICES[architecture]):
        if architecture < 80:
            toy.run([32, 8, 16], [reads(a), reads(b), writes(d)])
            assert np.all(d == 16)
        else:
            with pytest.raises(RuntimeError, match="in flight"):
                toy.run([32, 8, 16], [reads(a), reads(b), writes(d)])


def test_the_seed_alone_decides_the_order() -> None:
    toy = Toy("additions")

    def tickets(seed: int) -> list[int]:
        result = np.empty(192, np.uint32)
        sums = [updates(np.zeros(n, t)) for n, t in ((2, np.int32), (1, np.int64), (8, np.float32), (2, np.float64))]
        toy.run([3], [reads(np.ones(192, np.float32)), *sums, writes(result), updates(np.zeros(1, np.uint32))], seed)
        return [int(ticket) for ticket in result]

    orders = [tickets(seed) for seed in (0, 1, 2, 0, 1, 2)]
    assert orders[:3] == orders[3:]
    assert len({tuple(order) for order in orders}) == 3
