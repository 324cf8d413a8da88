fn column(tile: u32, k: u32, q: u32) -> vec4<f32> { return bitcast<vec4<f32>>(weights[tile + 4u * k + q]); }
