/// Attribute numbers that accounting uses (RFC 2865, 2866, 2869).
package enum RadiusAttributeType {
    package static let userName: UInt8 = 1
    package static let nasIPAddress: UInt8 = 4
    package static let calledStationId: UInt8 = 30
    package static let callingStationId: UInt8 = 31
    package static let nasIdentifier: UInt8 = 32
    package static let proxyState: UInt8 = 33
    package static let acctStatusType: UInt8 = 40
    package static let acctDelayTime: UInt8 = 41
    package static let acctSessionId: UInt8 = 44
    package static let acctSessionTime: UInt8 = 46
    package static let acctMultiSessionId: UInt8 = 50
    package static let eventTimestamp: UInt8 = 55
    package static let nasPortType: UInt8 = 61
    package static let messageAuthenticator: UInt8 = 80
    package static let nasIPv6Address: UInt8 = 95
}

/// Packet codes (RFC 2866, RFC 5997).
package enum RadiusCode {
    package static let accountingRequest: UInt8 = 4
    package static let accountingResponse: UInt8 = 5
    package static let statusServer: UInt8 = 12
}

/// Why bytes are no RADIUS packet.
package enum RadiusDefect: Error, Sendable, Hashable {
    /// Fewer than 20 bytes, or fewer than the length field says.
    case truncated
    /// The length field is under 20 or over 4096.
    case impossibleLength
    /// An attribute is shorter than its header or runs over the end.
    case brokenAttribute
}

/// A RADIUS packet (RFC 2865 section 3): header and attributes, kept as the bytes they came as.
package struct RadiusPacket: Sendable, Hashable {
    /// One attribute: its type and where its value is in `bytes`.
    package struct Attribute: Sendable, Hashable {
        package let type: UInt8
        package let range: Range<Int>
    }

    package static let headerLength = 20
    package static let maximumLength = 4096

    /// The whole packet without padding.
    package let bytes: [UInt8]
    /// In the order of the packet.
    package let attributes: [Attribute]

    package var code: UInt8 { bytes[0] }
    package var identifier: UInt8 { bytes[1] }
    package var authenticator: ArraySlice<UInt8> { bytes[4..<20] }

    /// Parses a datagram.
    ///
    /// Bytes after the length that the header gives are padding and ignored (RFC 2865 section 3).
    package init(parsing datagram: [UInt8]) throws(RadiusDefect) {
        guard datagram.count >= Self.headerLength else { throw .truncated }
        let length = Int(datagram[2]) << 8 | Int(datagram[3])
        guard (Self.headerLength...Self.maximumLength).contains(length) else { throw .impossibleLength }
        guard length <= datagram.count else { throw .truncated }
        var attributes: [Attribute] = []
        var offset = Self.headerLength
        while offset < length {
            guard offset + 2 <= length else { throw .brokenAttribute }
            let size = Int(datagram[offset + 1])
            guard size >= 2, offset + size <= length else { throw .brokenAttribute }
            attributes.append(Attribute(type: datagram[offset], range: offset + 2..<offset + size))
            offset += size
        }
        self.bytes = length == datagram.count ? datagram : Array(datagram[..<length])
        self.attributes = attributes
    }

    /// Builds a packet.
    ///
    /// `attributes`: type and value, in order; a value over 253 bytes or one that no longer fits into 4096
    ///   bytes is left out.
    package init(
        code: UInt8,
        identifier: UInt8,
        authenticator: [UInt8] = [UInt8](repeating: 0, count: 16),
        attributes list: [(type: UInt8, value: [UInt8])]
    ) {
        var bytes: [UInt8] = [code, identifier, 0, 0]
        bytes += authenticator.prefix(16) + [UInt8](repeating: 0, count: max(0, 16 - authenticator.count))
        var attributes: [Attribute] = []
        for (type, value) in list where value.count <= 253 && bytes.count + 2 + value.count <= Self.maximumLength {
            bytes += [type, UInt8(value.count + 2)]
            attributes.append(Attribute(type: type, range: bytes.count..<bytes.count + value.count))
            bytes += value
        }
        bytes[2] = UInt8(bytes.count >> 8)
        bytes[3] = UInt8(bytes.count & 255)
        self.bytes = bytes
        self.attributes = attributes
    }

    /// The value of the first attribute of a type.
    package func value(_ type: UInt8) -> ArraySlice<UInt8>? {
        attributes.first { $0.type == type }.map { bytes[$0.range] }
    }

    /// The values of all attributes of a type, in order.
    package func values(_ type: UInt8) -> [ArraySlice<UInt8>] {
        attributes.filter { $0.type == type }.map { bytes[$0.range] }
    }

    /// A four-byte integer attribute; nil where it is absent or of another size.
    package func integer(_ type: UInt8) -> UInt32? {
        guard let value = value(type), value.count == 4 else { return nil }
        return value.reduce(0) { $0 << 8 | UInt32($1) }
    }

    /// A text attribute as UTF-8 (broken sequences replaced) without the NUL bytes some peers append; nil where it is
    /// absent or empty.
    package func text(_ type: UInt8) -> String? {
        guard let value = value(type) else { return nil }
        let trimmed = value.prefix { $0 != 0 }
        return trimmed.isEmpty ? nil : String(decoding: trimmed, as: UTF8.self)
    }
}
