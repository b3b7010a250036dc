/// Finds ctrl-p ctrl-q in what the user types.
///
/// A ctrl-p is held back until the next key, or until the caller's time for it is over: shells use it too.
struct DetachKeys: Sendable {
    private static let first: UInt8 = 0x10
    private static let second: UInt8 = 0x11

    /// Whether a ctrl-p is held back.
    private(set) var isHolding = false
    /// The last key passed on was a ctrl-p whose time was over: a ctrl-q still means to leave.
    private var passedFirst = false

    /// What of the typed bytes goes to the program, and whether the user wants to leave.
    mutating func filter(_ typed: [UInt8]) -> (pass: [UInt8], detach: Bool) {
        var pass: [UInt8] = []
        pass.reserveCapacity(typed.count + 1)
        for byte in typed {
            if byte == Self.second, isHolding || passedFirst { return (pass, true) }
            if isHolding { pass.append(Self.first) }
            passedFirst = false
            isHolding = byte == Self.first
            if !isHolding { pass.append(byte) }
        }
        return (pass, false)
    }

    /// The time for the second key is over: the ctrl-p is meant for the program.
    mutating func release() -> [UInt8] {
        guard isHolding else { return [] }
        isHolding = false
        passedFirst = true
        return [Self.first]
    }
}
