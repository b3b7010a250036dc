/// Builds the few protobuf fields that CRIU's requests use (varints and length-delimited ones), in field order.
///
/// CRIU's interface is proto2 with stable numbers (criu.org/RPC); seven messages of it are used, so that a code generator
/// and its runtime would cost more than these lines.
struct ProtobufWriter {
    private(set) var bytes: [UInt8] = []

    /// Appends an integer, boolean or enumeration field; negative numbers as ten bytes, as proto2's int32 wants.
    mutating func integer(_ field: Int, _ value: Int) {
        varint(UInt64(field << 3))
        varint(UInt64(bitPattern: Int64(value)))
    }

    mutating func flag(_ field: Int, _ value: Bool) {
        integer(field, value ? 1 : 0)
    }

    mutating func string(_ field: Int, _ value: String) {
        message(field, Array(value.utf8))
    }

    /// Appends bytes or an embedded message.
    mutating func message(_ field: Int, _ value: [UInt8]) {
        varint(UInt64(field << 3 | 2))
        varint(UInt64(value.count))
        bytes += value
    }

    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest > 0x7f {
            bytes.append(UInt8(rest & 0x7f) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
}

/// The fields of one protobuf message; unknown fields are kept and ignored, malformed bytes give nil.
struct ProtobufMessage {
    private var integers: [Int: UInt64] = [:]
    private var blobs: [Int: [[UInt8]]] = [:]

    init?(_ bytes: [UInt8]) {
        var position = 0
        while position < bytes.count {
            guard let key = Self.varint(bytes, &position), key >> 3 > 0, key >> 3 < 1 << 29 else { return nil }
            let field = Int(key >> 3)
            switch key & 7 {
            case 0:
                guard let value = Self.varint(bytes, &position) else { return nil }
                integers[field] = value
            case 1:
                position += 8
            case 2:
                guard let count = Self.varint(bytes, &position), count <= UInt64(bytes.count - position) else {
                    return nil
                }
                blobs[field, default: []].append(Array(bytes[position..<position + Int(count)]))
                position += Int(count)
            case 5:
                position += 4
            default:
                return nil
            }
            if position > bytes.count { return nil }
        }
    }

    func integer(_ field: Int) -> Int? { integers[field].map { Int(truncatingIfNeeded: $0) } }
    func string(_ field: Int) -> String? { blobs[field]?.last.map { String(decoding: $0, as: UTF8.self) } }
    func message(_ field: Int) -> ProtobufMessage? { blobs[field]?.last.flatMap { ProtobufMessage($0) } }
    /// The messages of a repeated field; nil where one of them is malformed.
    func messages(_ field: Int) -> [ProtobufMessage]? {
        let all = blobs[field] ?? []
        let messages = all.compactMap { ProtobufMessage($0) }
        return messages.count == all.count ? messages : nil
    }

    private static func varint(_ bytes: [UInt8], _ position: inout Int) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while position < bytes.count, shift < 64 {
            let byte = bytes[position]
            position += 1
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        return nil
    }
}
