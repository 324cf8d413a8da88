// Tiles that begin with 16 float32 row scales and have 16 signed bytes of scales a group.

fn row_scale(tile: u32, q: u32) -> vec4<f32> { return bitcast<vec4<f32>>(weights[tile + q]); }
fn group_scale(tile: u32, g: u32, q: u32) -> vec4<f32> { return signed_bytes(weights[tile + 4u + g][q]); }
