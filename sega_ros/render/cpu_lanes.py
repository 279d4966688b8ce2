"""64 float32 lanes as one LLVM value, for kernels that write their vector code down instead of hoping for it.

`Lanes` builds LLVM IR: `u * u + v` emits two instructions on <64 x float>, which LLVM splits into what the machine has
(four 512-bit registers, eight of 256 bits, ...). Against loops over arrays that LLVM vectorises by itself, the lane
state stays in registers from one splat to the next: a third less time, and no dependence on what the vectoriser sees.
"""

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba.core import cgutils

LANES = 64
FLOAT, INT, INDEX, BOOL, BYTE = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.IntType(1), ir.IntType(8)
VECTOR, INT_VECTOR = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)
# No `reassoc`: it would undo the rounding in exp2. Values are finite by construction.
FLAGS = ('contract', 'nsz', 'arcp', 'nnan', 'ninf')
# Factors of minimax polynomials for 2^f, that of the highest power first: f in [-1/2, 1/2], twice, and in [0, 1).
_EXP2 = (0.009570101276040077, 0.05591785907745361, 0.240247443318367, 0.6931217908859253, 0.9999992847442627)
_ROUGH_EXP2 = (0.05517166935863397, 0.24261113138740398, 0.6932609862035318, 0.9999280729970834)
_ROUGH_EXP2_OF_FRACTION = (0.0780245235375871, 0.22606716467830595, 0.6958335313229567, 0.9999252200961)
_ALL = ir.IntType(16)(-1)
_MAGIC = 12582912.0  # 1.5 * 2^23: adding it to a small float32 rounds to an integer, found in the low mantissa bits


class Lanes:
    """A vector of floats under construction, as a rule <64 x float>; numbers and arrays of its width mix in as constants.

    Quarters of 16 may be computed one by one, and joined by `concat`: fewer values are alive at a time.
    """

    def __init__(self, builder: ir.IRBuilder, value: ir.Value):
        self.builder, self.value = builder, value

    @classmethod
    def constant(cls, builder: ir.IRBuilder, values, count: int = LANES) -> 'Lanes':
        """Return `count` lanes holding a number, or as many of them."""
        return cls(builder, _constant(values, count))

    @classmethod
    def broadcast(cls, builder: ir.IRBuilder, scalar: ir.Value, count: int = LANES) -> 'Lanes':
        """Return `count` lanes that all hold the float `scalar`."""
        empty = ir.Constant(ir.VectorType(FLOAT, count), ir.Undefined)
        first = builder.insert_element(empty, scalar, INT(0))
        return cls(builder, builder.shuffle_vector(first, empty, _indices([0] * count)))

    def __add__(self, other) -> 'Lanes':
        return self._new(self.builder.fadd(self.value, _value(other, self), flags=FLAGS))

    def __sub__(self, other) -> 'Lanes':
        return self._new(self.builder.fsub(self.value, _value(other, self), flags=FLAGS))

    def __mul__(self, other) -> 'Lanes':
        return self._new(self.builder.fmul(self.value, _value(other, self), flags=FLAGS))

    def __truediv__(self, other) -> 'Lanes':
        return self._new(self.builder.fdiv(self.value, _value(other, self), flags=FLAGS))

    def __ge__(self, other) -> ir.Value:
        return self.builder.fcmp_ordered('>=', self.value, _value(other, self))

    def __gt__(self, other) -> ir.Value:
        return self.builder.fcmp_ordered('>', self.value, _value(other, self))

    def __le__(self, other) -> ir.Value:
        return self.builder.fcmp_ordered('<=', self.value, _value(other, self))

    def where(self, mask: ir.Value, other) -> 'Lanes':
        """Return self in the lanes of `mask`, `other` elsewhere."""
        return self._new(self.builder.select(mask, self.value, _value(other, self)))

    def minus_abs(self) -> 'Lanes':
        """Return -|self|."""
        bits = self._bits()
        sign = ir.Constant(bits.type, [-(2**31)] * bits.type.count)
        return self._new(self.builder.bitcast(self.builder.or_(bits, sign), self.value.type))

    def exp2(self, factors: tuple[float, ...] = _EXP2) -> 'Lanes':
        """Return 2^self by a polynomial for [-1/2, 1/2]; with the usual one the relative error is below 3e-6.

        Beyond [-126, 127] it is anything.
        """
        shifted = self + _MAGIC
        p = (self - (shifted - _MAGIC)).polynomial(factors)
        exponent = _shift_left(self.builder, shifted._bits(), 23)
        return self._new(self.builder.bitcast(self.builder.add(p._bits(), exponent), self.value.type))

    def rough_exp2(self, mask: ir.Value, *, scaling: bool) -> 'Lanes':
        """Return 2^self in the lanes of `mask`, 0 elsewhere; relative error below 8e-5.

        `scaling` (quarters, if `can_scale`): by the instructions of AVX-512 for the fraction and for the power of two.
        """
        if not scaling:
            return self.exp2(_ROUGH_EXP2).where(mask, 0.0)
        p = self._of_avx512('reduce', self, INT(1), self, _ALL).polynomial(_ROUGH_EXP2_OF_FRACTION)  # less its floor
        zero, bits = Lanes.constant(self.builder, 0.0, 16), self.builder.bitcast(mask, ir.IntType(16))
        return self._of_avx512('scalef', p, self, zero, bits)

    def polynomial(self, factors: tuple[float, ...]) -> 'Lanes':
        """Return the polynomial with these factors, that of the highest power first."""
        first, second, *rest = factors
        p = self * first + second
        for c in rest:
            p = p * self + c
        return p

    def any_above(self, least: float) -> ir.Value:
        """Tell whether a lane is above `least` (one bit)."""
        kind = ir.FunctionType(FLOAT, [self.value.type])
        name = f'llvm.vector.reduce.fmax.v{self.value.type.count}f32'
        reduce = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.fcmp_ordered('>', self.builder.call(reduce, [self.value], fastmath=FLAGS), FLOAT(least))

    def fold(self) -> ir.Value:
        """Add the four quarters: <16 x float>."""
        q = [quarter.value for quarter in self.quarters()]
        return _add(self.builder, _add(self.builder, q[0], q[1]), _add(self.builder, q[2], q[3]))

    def quarters(self) -> list['Lanes']:
        """The four quarters."""
        n, v = self.value.type.count // 4, self.value
        return [self._new(self.builder.shuffle_vector(v, v, _indices(range(k * n, (k + 1) * n)))) for k in range(4)]

    def _of_avx512(self, name: str, *args) -> 'Lanes':
        """Emit an instruction on <16 x float>: its operands, what masked lanes get, the mask; rounding as it is."""
        values = [*(a.value if isinstance(a, Lanes) else a for a in args), INT(4)]
        kind = ir.FunctionType(self.value.type, [v.type for v in values])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f'llvm.x86.avx512.mask.{name}.ps.512')
        return self._new(self.builder.call(function, values))

    def _bits(self) -> ir.Value:
        return self.builder.bitcast(self.value, ir.VectorType(INT, self.value.type.count))

    def _new(self, value: ir.Value) -> 'Lanes':
        return Lanes(self.builder, value)


def can_scale(context) -> bool:
    """Whether the machine that `context` compiles for has the instructions of `Lanes.rough_exp2`."""
    return '+avx512dq' in context.codegen().magic_tuple()[2].split(',')


def concat(quarters: list[Lanes]) -> Lanes:
    """Join four values of a quarter's width; where a register holds a quarter, this costs nothing."""
    b, parts = quarters[0].builder, [q.value for q in quarters]
    while len(parts) > 1:
        every = _indices(range(2 * parts[0].type.count))
        parts = [b.shuffle_vector(x, y, every) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return Lanes(b, parts[0])


def sums(builder: ir.IRBuilder, eight: list[Lanes]) -> ir.Value:
    """Sum of each of eight Lanes over its lanes: <8 x float>.

    A tree that halves two vectors at a time: 16 shuffles and 8 additions, where eight separate sums take 32 and 32.
    """
    level = [lanes.fold() for lanes in eight]
    for run in (8, 4, 2):  # lanes of one input that stand together after this level
        low = [b * 2 * run + i for b in range(16 // run) for i in range(run)]
        level = [
            _add(builder, builder.shuffle_vector(a, b, _indices(low)), builder.shuffle_vector(a, b, _indices(low, run)))
            for a, b in zip(level[::2], level[1::2], strict=True)
        ]
    pairs = [builder.shuffle_vector(level[0], level[0], _indices(range(k, 16, 2))) for k in (0, 1)]
    return _add(builder, *pairs)


def total(lanes: Lanes) -> ir.Value:
    """Sum of all lanes, a float."""
    b, v = lanes.builder, lanes.fold()
    for n in (8, 4, 2, 1):
        v = _add(b, *(b.shuffle_vector(v, v, _indices(range(start, start + n))) for start in (0, n)))
    return b.extract_element(v, INT(0))


def loop(
    builder: ir.IRBuilder, begin: ir.Value, end: ir.Value, state: list[Lanes],
    body: Callable[[ir.Value, list[Lanes]], list[Lanes]], *, look_every: int, alive: Callable[[list[Lanes]], ir.Value],
) -> list[Lanes]:
    """Emit `for k in range(begin, end): state = body(k, state)`, left early once `alive(state)` (one bit) is false.

    Whether it is gets looked at every `look_every` (a power of two) rounds.
    """
    entry = builder.block
    top, look, bottom, done = (builder.append_basic_block(n) for n in ('lanes', 'look', 'bottom', 'done'))
    builder.cbranch(builder.icmp_signed('<', begin, end), top, done)
    builder.position_at_end(top)
    k, phis = builder.phi(INDEX), [builder.phi(s.value.type) for s in state]
    after = body(k, [Lanes(builder, p) for p in phis])
    following = builder.add(k, INDEX(1))
    computed = builder.block
    builder.cbranch(builder.icmp_signed('==', builder.and_(following, INDEX(look_every - 1)), INDEX(0)), look, bottom)
    builder.position_at_end(look)
    going_on = alive(after)
    builder.branch(bottom)
    builder.position_at_end(bottom)
    more = builder.phi(BOOL)
    more.add_incoming(BOOL(1), computed)
    more.add_incoming(going_on, look)
    builder.cbranch(builder.and_(more, builder.icmp_signed('<', following, end)), top, done)
    k.add_incoming(begin, entry)
    k.add_incoming(following, bottom)
    for phi, before, value in zip(phis, state, after, strict=True):
        phi.add_incoming(before.value, entry)
        phi.add_incoming(value.value, bottom)
    builder.position_at_end(done)
    results = [builder.phi(s.value.type) for s in state]
    for result, before, value in zip(results, state, after, strict=True):
        result.add_incoming(before.value, entry)
        result.add_incoming(value.value, bottom)
    return [Lanes(builder, r) for r in results]


def load_row(builder: ir.IRBuilder, floats: ir.Value, row: int) -> Lanes:
    """Load row `row` of 64 floats, aligned to 64 bytes, behind the pointer `floats`."""
    return Lanes(builder, builder.load(_row(builder, floats, row), align=64))


def store_row(builder: ir.IRBuilder, floats: ir.Value, row: int, lanes: Lanes) -> None:
    """Store into row `row` of 64 floats, aligned to 64 bytes, behind the pointer `floats`."""
    builder.store(lanes.value, _row(builder, floats, row), align=64)


def store_rgb(builder: ir.IRBuilder, image: ir.Value, start: ir.Value, width: ir.Value, rgb: list[Lanes]) -> None:
    """Store 8 x 8 pixels, three Lanes in [0, 256), as bytes RGB from pixel `start` of a picture of that width on."""
    b = builder
    red, green, blue = (b.fptosi(lanes.value, INT_VECTOR) for lanes in rgb)
    pixels = b.or_(red, b.or_(_shift_left(b, green, 8), _shift_left(b, blue, 16)))
    quads = b.bitcast(pixels, ir.VectorType(BYTE, 4 * LANES))
    for y in range(8):
        row = b.shuffle_vector(quads, quads, _indices([4 * (8 * y + x) + c for x in range(8) for c in range(3)]))
        first = b.mul(b.add(start, b.mul(width, INDEX(y))), INDEX(3))
        b.store(row, b.bitcast(b.gep(image, [first]), row.type.as_pointer()), align=1)


def add_to(builder: ir.IRBuilder, floats: ir.Value, offset: ir.Value, vector: ir.Value) -> None:
    """Add a float or a vector of floats to memory: floats[offset:] += vector."""
    target = builder.bitcast(builder.gep(floats, [offset]), vector.type.as_pointer())
    builder.store(_add(builder, builder.load(target, align=4), vector), target, align=4)


def _row(builder, floats, row):
    return builder.gep(builder.bitcast(floats, VECTOR.as_pointer()), [INDEX(row)])


def _shift_left(builder, integers, bits: int):
    return builder.shl(integers, ir.Constant(integers.type, [bits] * integers.type.count))


def _add(builder, a, b):
    return builder.fadd(a, b, flags=FLAGS)


def _indices(indices, shift: int = 0) -> ir.Constant:
    indices = [i + shift for i in indices]
    return ir.Constant(ir.VectorType(INT, len(indices)), indices)


def _value(other, like: Lanes) -> ir.Value:
    return other.value if isinstance(other, Lanes) else _constant(other, like.value.type.count)


def _constant(values, count: int = LANES) -> ir.Constant:
    kind = ir.VectorType(FLOAT, count)
    return ir.Constant(kind, [float(np.float32(v)) for v in np.broadcast_to(values, count)])
