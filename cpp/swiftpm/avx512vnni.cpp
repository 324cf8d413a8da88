#if defined(__x86_64__)
#include "target.h"

#pragma clang attribute push(                                                                     \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,fma,f16c"))), \
    apply_to = function)
#include "isa/avx512vnni.cpp"
#pragma clang attribute pop
#endif
