inline bool has_minimum() { return false; }
inline float4 minimum(Tiles, uint, uint, uint) { return float4(0.0f); }
