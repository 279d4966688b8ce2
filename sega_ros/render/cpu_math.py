"""Scalar building blocks of the CPU kernels that LLVM can vectorise: no libm calls, no branches."""

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

# Where infinities and NaN may come in, and must be told apart.
EXACT = {'contract', 'nsz'}
# Records are finite by construction, so the pixel loops may assume it (min and max become one instruction).
FINITE = {'contract', 'nsz', 'arcp', 'nnan', 'ninf'}


@intrinsic
def float_to_bits(typingctx, value):
    """Reinterpret a float32 as int32."""
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))
    return types.int32(types.float32), codegen


@intrinsic
def bits_to_float(typingctx, value):
    """Reinterpret an int32 as float32."""
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())
    return types.float32(types.int32), codegen


@intrinsic
def use_wide_vectors(typingctx):
    """Let LLVM use 512-bit vectors in the function that calls it; its default on AVX-512 processors is 256.

    llvmlite knows no string attributes, hence the bare set.add.
    """
    def codegen(context, builder, signature, args):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()
    return types.none(), codegen


@njit('float32(float32)', fastmath=EXACT, error_model='numpy', cache=True)
def log2(x):
    """Logarithm to base 2 of a positive normal float32, absolute error about 2e-7 for x near 1 (atanh series)."""
    bits = float_to_bits(x)
    # Mantissa in [sqrt(1/2), sqrt(2)): the offset is the bit pattern of sqrt(1/2).
    exponent = types.int32((bits - types.int32(0x3F3504F3)) >> types.int32(23))
    m = bits_to_float(types.int32(bits - (exponent << types.int32(23))))
    s = (m - types.float32(1.0)) / (m + types.float32(1.0))
    q = s * s
    p = types.float32(2.8853900817779268 / 9)
    p = p * q + types.float32(2.8853900817779268 / 7)
    p = p * q + types.float32(2.8853900817779268 / 5)
    p = p * q + types.float32(2.8853900817779268 / 3)
    p = p * q + types.float32(2.8853900817779268)
    return p * s + types.float32(exponent)
