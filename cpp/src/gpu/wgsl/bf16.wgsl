fn column(tile: u32, k: u32, q: u32) -> vec4<f32> {
    let words = half_words(tile + 2u * k, q);
    return vec4<f32>(two_bf16(words.x), two_bf16(words.y));
}
