// Codes of four bits whose levels LEVELS gives: a byte holds two, and becomes both levels at once.

var<workgroup> pairs: array<u32, 256>;  // low nibble's level, and the high one's from bit 16

fn prepare(lane: u32) {
    var levels = LEVELS;
    for (var i = lane; i < 256u; i += LANES) {
        pairs[i] = (u32(levels[i & 15u]) & 0xffu) | ((u32(levels[i >> 4u]) & 0xffu) << 16u);
    }
    workgroupBarrier();
}

// Levels of a word's low nibbles, and of its high ones, as bytes.
fn look_up(word: u32) -> vec2<u32> {
    let a = pairs[word & 0xffu] | (pairs[(word >> 8u) & 0xffu] << 8u);
    let b = pairs[(word >> 16u) & 0xffu] | (pairs[word >> 24u] << 8u);
    return vec2<u32>((a & 0xffffu) | (b << 16u), (a >> 16u) | (b & 0xffff0000u));
}
fn look_up4(words: vec4<u32>) -> Line {
    let x = look_up(words.x);
    let y = look_up(words.y);
    let z = look_up(words.z);
    let w = look_up(words.w);
    return Line(vec4<u32>(x.x, y.x, z.x, w.x), vec4<u32>(x.y, y.y, z.y, w.y));
}
