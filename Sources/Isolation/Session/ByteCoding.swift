/// Appends little-endian integers and length-prefixed strings, as the session protocol and smi-init's start contract use.
package struct ByteWriter: Sendable {
    /// What has been written.
    package private(set) var bytes: [UInt8] = []

    /// An empty writer.
    package init() {}

    /// Appends an integer, little-endian.
    package mutating func integer(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// Appends bytes as they are.
    package mutating func raw(_ value: [UInt8]) {
        bytes.append(contentsOf: value)
    }

    /// Appends a string: `u32` length, UTF-8 bytes.
    package mutating func string(_ value: String) {
        let utf8 = Array(value.utf8)
        integer(UInt32(utf8.count))
        raw(utf8)
    }

    /// Appends strings: `u32` count, then each.
    package mutating func list(_ values: [String]) {
        integer(UInt32(values.count))
        for value in values { string(value) }
    }
}

/// Reads what `ByteWriter` writes; every read is nil once the bytes are too short.
package struct ByteReader: Sendable {
    private let bytes: [UInt8]
    private var position = 0

    /// Reads from the start of `bytes`.
    package init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// Bytes not read yet.
    package var remaining: Int { bytes.count - position }

    /// The next integer, little-endian.
    package mutating func integer<Value: FixedWidthInteger>(_ type: Value.Type) -> Value? {
        let size = MemoryLayout<Value>.size
        guard remaining >= size else { return nil }
        var value: Value = 0
        withUnsafeMutableBytes(of: &value) { $0.copyBytes(from: bytes[position..<position + size]) }
        position += size
        return Value(littleEndian: value)
    }

    /// The next `count` bytes.
    package mutating func raw(_ count: Int) -> [UInt8]? {
        guard count >= 0, remaining >= count else { return nil }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    /// The next length-prefixed string; bytes that are not UTF-8 are replaced.
    package mutating func string() -> String? {
        guard let length = integer(UInt32.self), let raw = raw(Int(length)) else { return nil }
        return String(decoding: raw, as: UTF8.self)
    }
}
