import CLinux

/// Bytes of a stream on their way into chunks, with the checksum over all of them.
struct ChunkBuffer: ~Copyable {
    /// One chunk and room for the largest thing that is appended at once.
    private let storage: UnsafeMutableRawBufferPointer
    private var used = 0
    /// What was appended beyond the storage: an entry with many attributes.
    private var overflow: [UInt8] = []
    private(set) var checksum: UInt32 = 0

    init() {
        storage = .allocate(byteCount: 2 * TreeFormat.chunk, alignment: 4096)
    }

    deinit {
        storage.deallocate()
    }

    var isFull: Bool { used + overflow.count >= TreeFormat.chunk }

    mutating func append(_ bytes: [UInt8]) {
        checksum = bytes.withUnsafeBytes { smi_crc32c(checksum, $0.baseAddress, $0.count) }
        guard overflow.isEmpty, used + bytes.count <= storage.count else {
            overflow += bytes
            return
        }
        UnsafeMutableRawBufferPointer(rebasing: storage[used...]).copyBytes(from: bytes)
        used += bytes.count
    }

    mutating func header(_ record: TreeFormat.Record, length: Int) {
        var writer = ByteWriter()
        writer.integer(record.rawValue)
        writer.integer(UInt32(length))
        append(writer.bytes)
    }

    /// Appends a data record that `read` fills with at most `length` bytes; returns how many it gave, and appends
    /// nothing when it gave none.
    ///
    /// Only called while the buffer is not full, so that there is room.
    mutating func data(
        at offset: UInt64,
        length: Int,
        read: (UnsafeMutableRawBufferPointer) throws -> Int
    ) throws -> Int {
        let prefix = TreeFormat.header + 8
        let start = used
        let place = UnsafeMutableRawBufferPointer(rebasing: storage[(start + prefix)..<(start + prefix + length)])
        let count = try read(place)
        guard count > 0 else { return 0 }
        header(.data, length: 8 + count)
        var position = ByteWriter()
        position.integer(offset)
        append(position.bytes)
        checksum = smi_crc32c(checksum, place.baseAddress, count)
        used += count
        return count
    }

    /// Takes out at most one chunk; nil when there is nothing.
    mutating func take() -> [UInt8]? {
        let count = min(used, TreeFormat.chunk)
        guard count > 0 else { return nil }
        let chunk = [UInt8](UnsafeRawBufferPointer(rebasing: storage[..<count]))
        let rest = used - count
        if rest > 0 {
            storage.copyMemory(from: UnsafeRawBufferPointer(rebasing: storage[count..<used]))
        }
        used = rest
        let moved = min(overflow.count, storage.count - used)
        if moved > 0 {
            UnsafeMutableRawBufferPointer(rebasing: storage[used...]).copyBytes(from: overflow[..<moved])
            used += moved
            overflow.removeFirst(moved)
        }
        return chunk
    }
}
