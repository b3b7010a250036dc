/// Approximations that cost a few cycles and are the same on every machine, so that results are too.
enum FastMath {
    /// Natural logarithm of a positive normal number, to about 1e-5.
    @inline(__always)
    static func log(_ value: Float) -> Float {
        let bits = value.bitPattern
        let exponent = Float(Int32(bits >> 23) - 127)
        let m = Float(bitPattern: (bits & 0x007f_ffff) | 0x3f80_0000)
        // A polynomial (error 1.7e-5) for log2(m), m in [1, 2).
        let p = -2.7879262 + m * (5.0478554 + m * (-3.4898787 + m * (1.5894743 + m * (-0.4025134 + m * 0.0430050))))
        return (exponent + p) * 0.69314718
    }

    /// The same for `count` numbers in place, times `scale`; `count` is rounded up to a multiple of 8.
    static func log(_ values: UnsafeMutablePointer<Float>, _ count: Int, scale: Float) {
        // SAFETY: the caller's buffer holds a multiple of 8 numbers, so that the last vector is inside it.
        var place = 0
        let factor = scale * 0.69314718
        while place < count {
            let raw = UnsafeMutableRawPointer(values + place)
            let bits = raw.loadUnaligned(as: SIMD8<UInt32>.self)
            let whole = SIMD8<Int32>(truncatingIfNeeded: bits &>> 23) &- 127
            let m = raw.loadUnaligned(as: SIMD8<UInt32>.self) & 0x007f_ffff | 0x3f80_0000
            let x = unsafeBitCast(m, to: SIMD8<Float>.self)
            var p = x * 0.0430050 - 0.4025134
            p = p * x + 1.5894743
            p = p * x - 3.4898787
            p = p * x + 5.0478554
            p = p * x - 2.7879262
            let result = (SIMD8<Float>(whole) + p) * factor
            raw.storeBytes(of: result, as: SIMD8<Float>.self)
            place += 8
        }
    }

    /// e to the power of `value`, to about 1e-4 relative; clamped to what a Float can hold.
    @inline(__always)
    static func exp(_ value: Float) -> Float {
        let scaled = Swift.min(Swift.max(value * 1.44269504, -126), 126)
        // As `rounded(.down)`, which is a call where the processor's base set has no such instruction.
        let truncated = Int32(scaled)
        let whole = Float(truncated) > scaled ? truncated &- 1 : truncated
        let f = scaled - Float(whole)
        let p = 1 + f * (0.69315308 + f * (0.24015361 + f * (0.05582631 + f * (0.00898934 + f * 0.00187758))))
        return Float(bitPattern: UInt32(truncatingIfNeeded: whole &+ 127) << 23) * p
    }
}

/// A small generator with a fixed seed (SplitMix64): what is random in the predictor is the same in every run.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// A number in -1 ..< 1.
    mutating func symmetric() -> Float { Float(Int32(truncatingIfNeeded: next() >> 32)) / 2_147_483_648 }
}
