/// One netlink message under construction (netlink(7)): header, fixed part, attributes.
package struct NetlinkMessage: Sendable, Equatable {
    /// Message type, such as RTM_NEWLINK.
    package let type: UInt16
    /// NLM_F_* beside NLM_F_REQUEST, which is always set.
    package let flags: UInt16
    /// Fixed part and attributes.
    package private(set) var body: [UInt8]

    /// A message with its fixed part.
    package init(type: UInt16, flags: UInt16, fixed: [UInt8]) {
        self.type = type
        self.flags = flags | Self.request
        self.body = fixed
    }

    /// Appends an attribute, padded to 4 bytes.
    package mutating func attribute(_ type: UInt16, _ value: [UInt8]) {
        body += Bytes.of(UInt16(4 + value.count)) + Bytes.of(type) + value
        body += [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
    }

    /// Appends an integer attribute in host byte order.
    package mutating func attribute(_ type: UInt16, _ value: some FixedWidthInteger) {
        attribute(type, Bytes.of(value))
    }

    /// Appends a NUL-terminated string.
    package mutating func attribute(_ type: UInt16, string: String) {
        attribute(type, Array(string.utf8) + [0])
    }

    /// Appends an attribute that holds attributes.
    package mutating func nest(_ type: UInt16, _ fill: (inout NetlinkMessage) -> Void) {
        var inner = NetlinkMessage(type: 0, flags: 0, fixed: [])
        fill(&inner)
        attribute(type | Self.nested, inner.body)
    }

    /// Appends bytes to the fixed part of a nested structure.
    package mutating func raw(_ bytes: [UInt8]) {
        body += bytes
    }

    /// The message as it goes over the socket.
    package func encoded(sequence: UInt32) -> [UInt8] {
        let length = UInt32(16 + body.count)
        return Bytes.of(length) + Bytes.of(type) + Bytes.of(flags) + Bytes.of(sequence) + Bytes.of(UInt32(0)) + body
            + [UInt8](repeating: 0, count: (4 - body.count % 4) % 4)
    }

    static let request: UInt16 = 0x1
    static let ack: UInt16 = 0x4
    static let dump: UInt16 = 0x300
    static let replace: UInt16 = 0x100
    static let exclusive: UInt16 = 0x200
    static let create: UInt16 = 0x400
    private static let nested: UInt16 = 0x8000
}

/// A received netlink message.
package struct NetlinkReply: Sendable {
    /// Message type.
    package let type: UInt16
    /// The request that it answers.
    package let sequence: UInt32
    /// Everything after the header.
    package let body: [UInt8]

    /// Splits a datagram into messages; a truncated rest is dropped.
    package static func parse(_ datagram: [UInt8]) -> [NetlinkReply] {
        var replies: [NetlinkReply] = []
        var offset = 0
        while let length = Bytes.integer(datagram, at: offset, UInt32.self).map(Int.init), length >= 16,
            offset + length <= datagram.count, let type = Bytes.integer(datagram, at: offset + 4, UInt16.self),
            let sequence = Bytes.integer(datagram, at: offset + 8, UInt32.self)
        {
            let body = Array(datagram[(offset + 16)..<(offset + length)])
            replies.append(NetlinkReply(type: type, sequence: sequence, body: body))
            offset += (length + 3) & ~3
        }
        return replies
    }

    /// The attributes behind a fixed part of `skip` bytes, by type.
    package func attributes(after skip: Int) -> [UInt16: [UInt8]] {
        var found: [UInt16: [UInt8]] = [:]
        var offset = skip
        while let length = Bytes.integer(body, at: offset, UInt16.self).map(Int.init), length >= 4,
            offset + length <= body.count, let type = Bytes.integer(body, at: offset + 2, UInt16.self)
        {
            found[type & 0x3fff] = Array(body[(offset + 4)..<(offset + length)])
            offset += (length + 3) & ~3
        }
        return found
    }

    /// `errno` of an error message or 0 of an acknowledgement; nil for anything else.
    package var acknowledgement: Int32? {
        guard type == 2, let code = Bytes.integer(body, at: 0, Int32.self) else { return nil }
        return -code
    }
}

/// Integers to and from bytes in host order.
package enum Bytes {
    /// The bytes of an integer.
    package static func of(_ value: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: value) { Array($0) }
    }

    /// The integer at an offset; nil where the bytes end before.
    package static func integer<Value: FixedWidthInteger>(
        _ bytes: [UInt8],
        at offset: Int,
        _ type: Value.Type
    ) -> Value? {
        let size = MemoryLayout<Value>.size
        guard offset >= 0, offset + size <= bytes.count else { return nil }
        return bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: type) }
    }

    /// A NUL-terminated string.
    package static func string(_ bytes: [UInt8]) -> String {
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
}
