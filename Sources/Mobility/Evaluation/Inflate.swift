/// Decompresses gzip files (RFC 1951, RFC 1952), for recorded traces.
///
/// Plain and bounds-checked; the checksum at the end is verified.
enum Inflate {
    private struct Code {
        /// Symbols by code length, and how many codes have each length.
        var counts = [Int](repeating: 0, count: 16)
        var symbols: [Int]

        init(_ lengths: ArraySlice<Int>) {
            for length in lengths { counts[length] += 1 }
            counts[0] = 0
            var offsets = [Int](repeating: 0, count: 16)
            for length in 1..<15 { offsets[length + 1] = offsets[length] + counts[length] }
            symbols = Array(repeating: 0, count: lengths.count)
            for (symbol, length) in lengths.enumerated() where length > 0 {
                symbols[offsets[length]] = symbol
                offsets[length] += 1
            }
        }
    }

    private struct Reader {
        let bytes: [UInt8]
        var place: Int
        var held: UInt32 = 0
        var heldCount = 0

        mutating func bits(_ count: Int) throws(MobilityError) -> Int {
            while heldCount < count {
                guard place < bytes.count else { throw Inflate.failure }
                held |= UInt32(bytes[place]) << UInt32(heldCount)
                place += 1
                heldCount += 8
            }
            let value = held & ((1 << UInt32(count)) - 1)
            held >>= UInt32(count)
            heldCount -= count
            return Int(value)
        }

        mutating func symbol(_ code: Code) throws(MobilityError) -> Int {
            var (value, first, index) = (0, 0, 0)
            for length in 1..<16 {
                value |= try bits(1)
                let count = code.counts[length]
                if value - count < first { return code.symbols[index + value - first] }
                index += count
                first = (first + count) << 1
                value <<= 1
            }
            throw Inflate.failure
        }
    }

    private static let lengthBase = [
        3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227,
        258,
    ]
    private static let lengthExtra = [
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
    ]
    private static let distanceBase = [
        1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097,
        6145,
        8193, 12289, 16385, 24577,
    ]
    private static let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

    fileprivate static var failure: MobilityError {
        MobilityError(.data, cause: "the compressed file is damaged", remedy: "compress it again with gzip")
    }

    /// Whether the bytes begin as a gzip file.
    static func isGzip(_ bytes: [UInt8]) -> Bool { bytes.count > 18 && bytes[0] == 0x1f && bytes[1] == 0x8b }

    /// Decompresses the first member of a gzip file; refuses more than `limit` bytes.
    static func gunzip(_ bytes: [UInt8], limit: Int = 1 << 30) throws(MobilityError) -> [UInt8] {
        guard isGzip(bytes), bytes[2] == 8 else { throw failure }
        var start = 10
        let flags = bytes[3]
        if flags & 4 != 0 { start += 2 + Int(bytes[10]) + Int(bytes[11]) << 8 }
        for flag: UInt8 in [8, 16] where flags & flag != 0 {
            while start < bytes.count, bytes[start] != 0 { start += 1 }
            start += 1
        }
        if flags & 2 != 0 { start += 2 }
        var reader = Reader(bytes: bytes, place: start)
        var out: [UInt8] = []
        var last = false
        while !last {
            last = try reader.bits(1) == 1
            switch try reader.bits(2) {
            case 0: try stored(&reader, &out)
            case 1: try block(&reader, &out, fixed.0, fixed.1, limit)
            case 2:
                let codes = try dynamic(&reader)
                try block(&reader, &out, codes.0, codes.1, limit)
            default: throw failure
            }
            if out.count > limit { throw failure }
        }
        try verify(reader, out)
        return out
    }

    private static var fixed: (Code, Code) {
        let lengths = (0..<288).map { $0 < 144 ? 8 : $0 < 256 ? 9 : $0 < 280 ? 7 : 8 }
        return (Code(lengths[...]), Code(Array(repeating: 5, count: 30)[...]))
    }

    private static func stored(_ reader: inout Reader, _ out: inout [UInt8]) throws(MobilityError) {
        reader.held = 0
        reader.heldCount = 0
        guard reader.place + 4 <= reader.bytes.count else { throw failure }
        let count = Int(reader.bytes[reader.place]) | Int(reader.bytes[reader.place + 1]) << 8
        reader.place += 4
        guard reader.place + count <= reader.bytes.count else { throw failure }
        out += reader.bytes[reader.place..<(reader.place + count)]
        reader.place += count
    }

    private static func dynamic(_ reader: inout Reader) throws(MobilityError) -> (Code, Code) {
        let literals = try reader.bits(5) + 257
        let distances = try reader.bits(5) + 1
        let count = try reader.bits(4) + 4
        guard literals <= 286, distances <= 30 else { throw failure }
        var lengths = [Int](repeating: 0, count: 19)
        for place in 0..<count { lengths[order[place]] = try reader.bits(3) }
        let code = Code(lengths[...])
        var all: [Int] = []
        while all.count < literals + distances {
            let symbol = try reader.symbol(code)
            switch symbol {
            case 0..<16: all.append(symbol)
            case 16:
                guard let before = all.last else { throw failure }
                all += Array(repeating: before, count: try reader.bits(2) + 3)
            case 17: all += Array(repeating: 0, count: try reader.bits(3) + 3)
            default: all += Array(repeating: 0, count: try reader.bits(7) + 11)
            }
        }
        guard all.count == literals + distances else { throw failure }
        return (Code(all[..<literals]), Code(all[literals...]))
    }

    private static func block(
        _ reader: inout Reader,
        _ out: inout [UInt8],
        _ literals: Code,
        _ distances: Code,
        _ limit: Int
    ) throws(MobilityError) {
        while true {
            let symbol = try reader.symbol(literals)
            if symbol < 256 {
                out.append(UInt8(symbol))
                continue
            }
            if symbol == 256 { return }
            guard symbol - 257 < lengthBase.count else { throw failure }
            let length = lengthBase[symbol - 257] + (try reader.bits(lengthExtra[symbol - 257]))
            let far = try reader.symbol(distances)
            guard far < distanceBase.count else { throw failure }
            let distance = distanceBase[far] + (try reader.bits(far < 2 ? 0 : far / 2 - 1))
            guard distance <= out.count, out.count + length <= limit else { throw failure }
            for _ in 0..<length { out.append(out[out.count - distance]) }
        }
    }

    private static func verify(_ reader: Reader, _ out: [UInt8]) throws(MobilityError) {
        let place = reader.place - reader.heldCount / 8
        guard place + 8 <= reader.bytes.count else { throw failure }
        var stored: UInt32 = 0
        for byte in 0..<4 { stored |= UInt32(reader.bytes[place + byte]) << UInt32(8 * byte) }
        let table = (0..<256).map { index -> UInt32 in
            (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? 0xedb8_8320 ^ (value >> 1) : value >> 1 }
        }
        var check: UInt32 = 0xffff_ffff
        for byte in out { check = table[Int((check ^ UInt32(byte)) & 0xff)] ^ (check >> 8) }
        guard check ^ 0xffff_ffff == stored else { throw failure }
    }
}
