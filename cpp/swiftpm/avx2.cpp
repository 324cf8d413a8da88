#if defined(__x86_64__)
#include "target.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "isa/avx2.cpp"
#pragma clang attribute pop
#endif
