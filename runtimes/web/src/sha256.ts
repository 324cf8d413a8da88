// SHA-256 of bytes that arrive in pieces, which WebCrypto cannot do. FIPS 180-4.

/** The first 32 bits of the fractional part of `root` of the first primes. */
function constants(count: number, root: (n: number) => number): Int32Array {
    const values = new Int32Array(count); // signed: what JavaScript's 32-bit arithmetic gives
    for (let prime = 2, found = 0; found < count; ++prime) {
        let isPrime = true;
        for (let d = 2; d * d <= prime; ++d) if (prime % d === 0) isPrime = false;
        if (isPrime) values[found++] = ((root(prime) % 1) * 2 ** 32) | 0;
    }
    return values;
}

const K = constants(64, Math.cbrt);
const H = constants(8, Math.sqrt);

export class Sha256 {
    readonly #state = H.slice();
    readonly #words = new Int32Array(64);
    readonly #block = new Uint8Array(64);
    #pending = 0; // bytes in #block
    #length = 0;

    update(bytes: Uint8Array): this {
        this.#length += bytes.length;
        let at = 0;
        if (this.#pending) {
            at = Math.min(64 - this.#pending, bytes.length);
            this.#block.set(bytes.subarray(0, at), this.#pending);
            this.#pending += at;
            if (this.#pending < 64) return this;
            this.#compress(this.#block, 0);
            this.#pending = 0;
        }
        for (; at + 64 <= bytes.length; at += 64) this.#compress(bytes, at);
        this.#block.set(bytes.subarray(at));
        this.#pending = bytes.length - at;
        return this;
    }

    /** 64 hexadecimal digits; ends this object's use. */
    hex(): string {
        const length = this.#length;
        const padding = new Uint8Array(((119 - this.#pending) & 63) + 9);
        padding[0] = 0x80;
        new DataView(padding.buffer).setBigUint64(padding.length - 8, BigInt(length) * 8n);
        this.update(padding);
        return Array.from(this.#state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
    }

    #compress(bytes: Uint8Array, at: number): void {
        const w = this.#words;
        for (let i = 0; i < 16; ++i, at += 4)
            w[i] = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
        for (let i = 16; i < 64; ++i) {
            const x = w[i - 15]!;
            const y = w[i - 2]!;
            const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
            const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
            w[i] = (w[i - 16]! + s0 + w[i - 7]! + s1) | 0;
        }
        const state = this.#state;
        let a = state[0]!;
        let b = state[1]!;
        let c = state[2]!;
        let d = state[3]!;
        let e = state[4]!;
        let f = state[5]!;
        let g = state[6]!;
        let h = state[7]!;
        for (let i = 0; i < 64; ++i) {
            const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
            const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i]! + w[i]!) | 0;
            const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
            const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
            h = g;
            g = f;
            f = e;
            e = (d + t1) | 0;
            d = c;
            c = b;
            b = a;
            a = (t1 + t2) | 0;
        }
        state[0]! += a;
        state[1]! += b;
        state[2]! += c;
        state[3]! += d;
        state[4]! += e;
        state[5]! += f;
        state[6]! += g;
        state[7]! += h;
    }
}
