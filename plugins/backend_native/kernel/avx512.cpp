// AVX-512 with VNNI: 64 products of 8 bits per instruction.
#if defined(__x86_64__)
#include "kernel.h"

#include <immintrin.h>

#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")

namespace native {
namespace {

#include "avx512_primitives.h"
#include "rows.h"
#include "float_units.h"
#include "reader_rows.h"
#include "look_rows.h"

}  // namespace

const Level avx512 = VOICED_LEVEL(avx512);

}  // namespace native
#endif
