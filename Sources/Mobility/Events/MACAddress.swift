/// A 48-bit IEEE 802 address, whatever way a peer spells it.
package struct MACAddress: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The address in the low 48 bits, first octet most significant.
    package let bits: UInt64

    /// `bits`: the address; bits above the low 48 are dropped.
    package init(bits: UInt64) {
        self.bits = bits & 0xffff_ffff_ffff
    }

    /// Reads `aa:bb:cc:dd:ee:ff`, `AA-BB-CC-DD-EE-FF`, `aabb.ccdd.eeff`, `aabbcc-ddeeff` and `aabbccddeeff`; nil for
    /// anything else.
    ///
    /// Separators must split the digits into equal groups, so that a name such as `a-bb…` is no address.
    package init?<Text: StringProtocol>(_ text: Text) {
        self.init(bytes: text.utf8)
    }

    /// The same for text that is still bytes, as in a RADIUS attribute.
    package init?(bytes: some Collection<UInt8>) {
        guard (12...17).contains(bytes.count) else { return nil }
        var value: UInt64 = 0
        var digits = 0
        var group = 0
        var groupSize = 0
        var separator: UInt8 = 0
        for byte in bytes {
            if let digit = Self.hexDigit(byte) {
                value = value << 4 | UInt64(digit)
                digits += 1
                group += 1
                continue
            }
            guard byte == UInt8(ascii: ":") || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".") else {
                return nil
            }
            guard separator == 0 || separator == byte, groupSize == 0 || groupSize == group, group > 0 else {
                return nil
            }
            (separator, groupSize, group) = (byte, group, 0)
        }
        guard digits == 12, separator == 0 || (group == groupSize && [2, 4, 6].contains(groupSize)) else { return nil }
        self.bits = value
    }

    /// The canonical spelling: lower case, colons.
    package var description: String {
        var text = ""
        text.reserveCapacity(17)
        for octet in 0..<6 {
            let byte = UInt8(truncatingIfNeeded: bits >> UInt64(8 * (5 - octet)))
            if octet > 0 { text.append(":") }
            text.append(Self.digit(byte >> 4))
            text.append(Self.digit(byte & 15))
        }
        return text
    }

    package static func < (left: MACAddress, right: MACAddress) -> Bool {
        left.bits < right.bits
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    private static func digit(_ value: UInt8) -> Character {
        Character(UnicodeScalar(value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10))
    }
}
