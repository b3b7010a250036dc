import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// memfds and System V segments on the host that will restore an SMI, each with what a backing file of shared memory
/// holds: filled before the freeze, so that in it only what changed last has to be written.
package final class SharedFills: Sendable {
    /// One object that is ready.
    package struct Filled: Sendable {
        /// The number of its backing file.
        package let number: Int32
        /// What it was where it was dumped.
        package let original: SharedObject
        /// The memfd, or segment, that takes its place, and its inode.
        package let descriptor: Descriptor
        package let inode: UInt64
        /// Bytes.
        package let size: UInt64
    }

    fileprivate struct Fill {
        let object: SharedObject
        let descriptor: Descriptor
        let inode: UInt64
        let name: String
        var size: UInt64
        /// The epoch it holds whole; 0 for none.
        var epoch: UInt64 = 0
    }

    /// Pages written at a time.
    private static let batch = 64

    fileprivate struct State {
        var fills: [Int32: Fill] = [:]
        var segments = SegmentSpace()
    }

    private let state = Mutex(State())

    /// Nothing is filled yet.
    package init() {}

    /// Brings objects to what their backing files hold at an epoch; one with which that fails is given up.
    ///
    /// Blocks. The backing files have no pending changes.
    package func fill(_ shapes: [Int32: SharedShape], from stores: [Int32: PageStore], epoch: UInt64) {
        state.withLock { state in
            for (number, fill) in state.fills where !Self.serves(fill, shapes[number]) { state.give(up: number) }
            for (number, shape) in shapes {
                guard let store = stores[number] else { continue }
                do {
                    var fill = try state.fills[number] ?? state.make(shape)
                    state.fills[number] = fill
                    try Self.update(&fill, shape, store)
                    fill.epoch = epoch
                    state.fills[number] = fill
                } catch {
                    state.give(up: number)
                }
            }
        }
    }

    /// Whether what is there can become this object.
    private static func serves(_ fill: Fill, _ shape: SharedShape?) -> Bool {
        guard let shape, fill.name == shape.name, fill.object.kind == shape.object.kind else { return false }
        // A segment has its number and its size for life.
        return shape.object.kind == .file || (fill.object == shape.object && fill.size == shape.size)
    }

    /// The objects among these that hold an epoch whole.
    package func filled(_ shapes: [Int32: SharedShape], epoch: UInt64) -> [Filled] {
        state.withLock { state in
            let ready = shapes.compactMap { number, shape -> Filled? in
                guard let fill = state.fills[number], fill.epoch == epoch, Self.serves(fill, shape),
                    fill.size == shape.size
                else { return nil }
                return Filled(
                    number: number,
                    original: shape.object,
                    descriptor: fill.descriptor,
                    inode: fill.inode,
                    size: fill.size
                )
            }
            // The namespace is taken over whole: with a segment in it that is not wanted it cannot be.
            let segments = state.fills.filter { $0.value.object.kind == .segment }
            return segments.keys.allSatisfy { number in ready.contains { $0.number == number } }
                ? ready : ready.filter { $0.original.kind == .file }
        }
    }

    /// The IPC namespace that the segments are in; nil where there are none.
    package var segmentSpace: Descriptor? { state.withLock { $0.segments.namespace } }

    private static func update(_ fill: inout Fill, _ shape: SharedShape, _ store: PageStore) throws {
        let file = fill.descriptor.raw
        var held: [UInt64] = []
        if fill.size != shape.size {
            try syscall("ftruncate", shape.name) { ftruncate(file, off_t(shape.size)) }
            // What lay behind the end in its page is gone.
            held = [fill.size / 4096, shape.size / 4096].filter { store.epoch(of: $0) != nil }
            fill.size = shape.size
        }
        var from: UInt64 = 0
        while true {
            let pages = store.pages(from: from, changedAfter: fill.epoch, limit: 4096)
            guard let last = pages.last else { break }
            held += pages
            from = last + 1
        }
        let end = (shape.size + 4095) / 4096
        for range in normalized(held.map { $0..<$0 + 1 }) { try write(range.clamped(to: 0..<end), store, file) }
        try drop(store, end, file)
    }

    private static func write(_ range: Range<UInt64>, _ store: PageStore, _ file: Int32) throws {
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: batch * 4096, alignment: 4096)
        defer { buffer.deallocate() }
        for first in stride(from: range.lowerBound, to: range.upperBound, by: batch) {
            let count = min(batch, Int(range.upperBound - first))
            for i in 0..<count {
                guard try store.read(first + UInt64(i), into: buffer + i * 4096) else {
                    throw SyscallError("read", code: ENODATA, subject: "shared memory")
                }
            }
            // A write beyond the end would make the object longer.
            try syscall("write") { smi_shared_write(file, first, count, buffer) }
        }
    }

    /// Drops pages that the backing file does not hold.
    private static func drop(_ store: PageStore, _ end: UInt64, _ file: Int32) throws {
        var present: [Range<UInt64>] = []
        var spans = [smi_span](repeating: smi_span(), count: 256)
        var from: UInt64 = 0
        while from < end {
            let count = smi_shared_present(file, &from, &spans, spans.count)
            guard count >= 0 else { throw SyscallError("lseek", code: Int32(-count)) }
            present += spans[..<count].map { $0.first..<$0.end }
        }
        // All that the file holds has been written: equal numbers are equal pages.
        if pageCount(present) == Int(store.statistics.pages) { return }
        for span in present {
            let pages = store.pages(from: span.lowerBound, limit: span.count)
            let held = normalized(pages.filter { $0 < span.upperBound }.map { $0..<$0 + 1 })
            for gone in subtract(held, from: [span]) {
                try syscall("fallocate") { smi_shared_drop(file, gone.lowerBound, gone.upperBound) }
            }
        }
    }
}

extension SharedFills.State {
    fileprivate mutating func make(_ shape: SharedShape) throws(SyscallError) -> SharedFills.Fill {
        let descriptor: Descriptor
        switch shape.object.kind {
        case .file:
            let raw = smi_shared_create(shape.name, shape.size, 1)
            guard raw >= 0 else { throw SyscallError("memfd_create", code: -raw, subject: shape.name) }
            descriptor = Descriptor(owning: raw)
        case .segment:
            descriptor = try segments.add(shape)
        }
        var state = smi_shared_state()
        let result = smi_shared_look(descriptor.raw, &state)
        guard result == 0 else { throw SyscallError("fstat", code: -result, subject: shape.name) }
        return SharedFills.Fill(
            object: shape.object,
            descriptor: descriptor,
            inode: state.inode,
            name: shape.name,
            size: shape.size
        )
    }

    fileprivate mutating func give(up number: Int32) {
        guard let fill = fills.removeValue(forKey: number), fill.object.kind == .segment else { return }
        if !segments.remove(fill.object) {
            fills = fills.filter { $0.value.object.kind == .file }
            segments = SegmentSpace()
        }
    }
}
