// A sum over the lanes of a threadgroup, the same for each. `partial`: LANES / SIMD numbers.

inline float total(float x, uint lane, threadgroup float *partial) {
    x = simd_sum(x);
    if (lane % SIMD == 0) partial[lane / SIMD] = x;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float sum = 0;
    for (uint i = 0; i < LANES / SIMD; ++i) sum += partial[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return sum;
}
