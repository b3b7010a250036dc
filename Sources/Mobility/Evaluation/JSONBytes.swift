/// Writes JSON into an array of bytes, without making strings on the way.
enum JSONBytes {
    /// `text` as a JSON string, with its quotes.
    static func string(_ text: String, into out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                out.append(UInt8(ascii: "\\"))
                out.append(byte)
            case 0..<32:
                let digits = Array("0123456789abcdef".utf8)
                out += Array("\\u00".utf8)
                out.append(digits[Int(byte >> 4)])
                out.append(digits[Int(byte & 15)])
            default:
                out.append(byte)
            }
        }
        out.append(UInt8(ascii: "\""))
    }

    /// A number with a fixed count of decimals (0 to 6); what is not finite becomes 0.
    static func number(_ value: Double, decimals: Int, into out: inout [UInt8]) {
        var scale: Int64 = 1
        for _ in 0..<decimals { scale *= 10 }
        guard value.isFinite, abs(value) < 1e12 else {
            out.append(UInt8(ascii: "0"))
            return
        }
        let scaled = Int64((value * Double(scale)).rounded())
        if scaled < 0 { out.append(UInt8(ascii: "-")) }
        let size = scaled.magnitude
        integer(size / UInt64(scale), into: &out)
        guard decimals > 0 else { return }
        out.append(UInt8(ascii: "."))
        var rest = size % UInt64(scale)
        var unit = UInt64(scale) / 10
        while unit > 0 {
            out.append(48 + UInt8(rest / unit))
            rest %= unit
            unit /= 10
        }
    }

    /// A whole number.
    static func integer(_ value: UInt64, into out: inout [UInt8]) {
        if value >= 10 { integer(value / 10, into: &out) }
        out.append(48 + UInt8(value % 10))
    }

    /// A number as the input spelled it, where JSON allows that spelling, else `value`.
    static func echo(_ bytes: ArraySlice<UInt8>, value: Double, into out: inout [UInt8]) {
        if isNumber(bytes) {
            out += bytes
        } else if value == value.rounded(), abs(value) < 1e15 {
            if value < 0 { out.append(UInt8(ascii: "-")) }
            integer(UInt64(abs(value)), into: &out)
        } else {
            number(value, decimals: 6, into: &out)
        }
    }

    /// Whether the bytes are a plain decimal number of JSON.
    private static func isNumber(_ bytes: ArraySlice<UInt8>) -> Bool {
        var rest = bytes
        if rest.first == UInt8(ascii: "-") { rest = rest.dropFirst() }
        let parts = rest.split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = parts.first, !whole.isEmpty, whole.count == 1 || whole.first != 48 else { return false }
        return parts.allSatisfy { part in !part.isEmpty && part.allSatisfy { $0 >= 48 && $0 <= 57 } }
    }
}
