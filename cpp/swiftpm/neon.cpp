#if defined(__aarch64__)
#include "target.h"

#include "isa/neon.cpp"
#endif
