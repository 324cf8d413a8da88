// Which of the sources here this processor's family has.
#define EDGEKIT_HAVE_SCALAR
#if defined(__x86_64__)
#define EDGEKIT_HAVE_AVX2
#define EDGEKIT_HAVE_AVX512VNNI
#elif defined(__aarch64__)
#define EDGEKIT_HAVE_NEON
#define EDGEKIT_HAVE_NEON_DOTPROD
#define EDGEKIT_HAVE_NEON_I8MM
#endif
#include "kernels/dispatch.cpp"
