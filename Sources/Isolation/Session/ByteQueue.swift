/// Bytes on their way: appended at the end, taken from the front, in one raw buffer that grows when needed.
///
/// Not thread-safe: it belongs to the thread that drives the client.
final class ByteQueue {
    private var storage: UnsafeMutableRawPointer
    private var capacity: Int
    private var head = 0
    private var tail = 0

    init(capacity: Int = 64 << 10) {
        self.capacity = capacity
        storage = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
    }

    deinit {
        storage.deallocate()
    }

    var count: Int { tail - head }
    var isEmpty: Bool { head == tail }

    /// The bytes held.
    ///
    /// SAFETY: valid until the next change of the queue.
    var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: storage + head, count: count)
    }

    /// Forgets bytes at the front.
    func removeFirst(_ count: Int) {
        head += count
        if head == tail {
            head = 0
            tail = 0
        }
    }

    /// Appends a copy.
    func append(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
        reserve(bytes.count)
        (storage + tail).copyMemory(from: base, byteCount: bytes.count)
        tail += bytes.count
    }

    /// Appends a copy.
    func append(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { append($0) }
    }

    /// Room for at least `count` bytes at the end, to be filled and then counted by `filled`.
    func space(_ count: Int) -> UnsafeMutableRawBufferPointer {
        reserve(count)
        return UnsafeMutableRawBufferPointer(start: storage + tail, count: count)
    }

    /// Counts bytes that were put into `space`.
    func filled(_ count: Int) {
        tail += count
    }

    /// Forgets everything.
    func removeAll() {
        head = 0
        tail = 0
    }

    private func reserve(_ more: Int) {
        guard capacity - tail < more else { return }
        let held = count
        // Moved to the front where that frees half or more: each byte is moved a bounded number of times.
        if held + more <= capacity, held <= capacity / 2 {
            storage.copyMemory(from: storage + head, byteCount: held)
        } else {
            var larger = capacity * 2
            while larger < held + more { larger *= 2 }
            let replacement = UnsafeMutableRawPointer.allocate(byteCount: larger, alignment: 16)
            replacement.copyMemory(from: storage + head, byteCount: held)
            storage.deallocate()
            storage = replacement
            capacity = larger
        }
        head = 0
        tail = held
    }
}
