import LinuxSystem

/// Runs a seccomp filter as the kernel would, so that tests need no process to try it on.
struct FilterInterpreter {
    private let program: [(code: UInt16, jumpTrue: Int, jumpFalse: Int, value: UInt32)]

    init(_ bytes: [UInt8]) {
        program = stride(from: 0, to: bytes.count, by: 8).map { at in
            (
                Bytes.integer(bytes, at: at, UInt16.self) ?? 0, Int(bytes[at + 2]), Int(bytes[at + 3]),
                Bytes.integer(bytes, at: at + 4, UInt32.self) ?? 0
            )
        }
    }

    /// The filter's verdict on a call; nil for a program that is not valid.
    func verdict(_ number: UInt32, architecture: UInt32, _ arguments: [UInt64] = []) -> UInt32? {
        var data = Bytes.of(number) + Bytes.of(architecture) + Bytes.of(UInt64(0))
        for index in 0..<6 { data += Bytes.of(index < arguments.count ? arguments[index] : 0) }
        var accumulator: UInt32 = 0
        var at = 0
        while at < program.count {
            let (code, jumpTrue, jumpFalse, value) = program[at]
            at += 1
            switch code {
            case 0x20:
                guard let word = Bytes.integer(data, at: Int(value), UInt32.self) else { return nil }
                accumulator = word
            case 0x05: at += Int(value)
            case 0x15: at += accumulator == value ? jumpTrue : jumpFalse
            case 0x25: at += accumulator > value ? jumpTrue : jumpFalse
            case 0x35: at += accumulator >= value ? jumpTrue : jumpFalse
            case 0x45: at += accumulator & value != 0 ? jumpTrue : jumpFalse
            case 0x54: accumulator &= value
            case 0x06: return value
            default: return nil
            }
        }
        return nil
    }
}
