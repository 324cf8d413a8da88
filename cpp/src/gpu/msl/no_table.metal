struct Table {};
inline void prepare(threadgroup Table &, uint) {}
