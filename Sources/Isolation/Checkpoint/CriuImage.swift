/// How CRIU's images are laid out: two magic numbers, then messages, each behind its length (criu.org/Images).
enum CriuImage {
    static let headerSize = 8

    /// The messages of an image, in order; nil where it ends in the midst of one.
    static func records(of bytes: [UInt8]) -> [[UInt8]]? {
        var position = headerSize
        var records: [[UInt8]] = []
        while position + 4 <= bytes.count {
            let length = (0..<4).reduce(0) { $0 | Int(bytes[position + $1]) << (8 * $1) }
            position += 4
            guard length <= bytes.count - position else { return nil }
            records.append(Array(bytes[position..<position + length]))
            position += length
        }
        return position == bytes.count ? records : nil
    }
}
