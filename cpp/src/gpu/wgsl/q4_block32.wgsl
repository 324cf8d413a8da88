const LEVELS = array<i32, 16>(-31, -24, -18, -14, -11, -8, -5, -2, 0, 3, 6, 9, 12, 16, 21, 30);

fn line(tile: u32, g: u32, j: u32, q: u32) -> Line {
    return look_up4(weights[tile + p.codes + 16u * g + 4u * j + q]);
}
