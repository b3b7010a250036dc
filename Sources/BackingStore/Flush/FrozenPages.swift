import Glibc

/// The pages of processes that stand still, for another host that holds their backing files at the epoch of the freeze
/// but for some pages.
///
/// What is sent is also put into the files here, as part of the epoch after it. Calls block, and come one after the other.
package final class FrozenPages: Sendable {
    /// One process and its backing file.
    package struct Source: Sendable {
        package let hostPid: pid_t
        package let inner: pid_t
        package let store: PageStore

        /// Names a process.
        package init(hostPid: pid_t, inner: pid_t, store: PageStore) {
            self.hostPid = hostPid
            self.inner = inner
            self.store = store
        }
    }

    private let sources: [pid_t: Source]
    private let codec: PageDelta.Codec
    /// The epoch that both sides hold.
    package let base: UInt64

    /// The pages of processes whose files hold the epoch `base` here and there.
    package init(_ sources: [Source], after base: UInt64, codec: PageDelta.Codec) {
        self.sources = Dictionary(sources.map { ($0.inner, $0) }) { first, _ in first }
        self.base = base
        self.codec = codec
    }

    /// The processes, by their number inside the sandbox.
    package var processes: [pid_t] { sources.keys.sorted() }

    /// Reads pages of a process, puts them into its file and encodes them for the other side.
    ///
    /// A page that cannot be read reads as zeros: it is guarded, and nobody will.
    /// - Throws: where the process is gone or was never here.
    package func frame(of process: pid_t, pages: [Range<UInt64>]) throws -> [UInt8] {
        guard let source = sources[process] else { throw FrozenPagesError.gone(process) }
        let numbers = Array(pages.joined())
        var data = [UInt8](repeating: 0, count: numbers.count * PageStore.pageSize)
        var position = 0
        let isThere = ProcessMemoryReader.read(pages, of: source.hostPid) { read, bytes in
            for (i, page) in read.enumerated() {
                while position < numbers.count, numbers[position] < page { position += 1 }
                guard position < numbers.count, numbers[position] == page else { return }
                data.withUnsafeMutableBytes { buffer in
                    buffer.baseAddress?.advanced(by: position * PageStore.pageSize).copyMemory(
                        from: bytes + i * PageStore.pageSize,
                        byteCount: PageStore.pageSize
                    )
                }
            }
        }
        guard isThere else { throw FrozenPagesError.gone(process) }
        return try data.withUnsafeBytes { buffer in
            guard let bytes = buffer.baseAddress else { return [] }
            let frame = try PageDelta.encode(numbers, bytes, from: source.store, baseEpoch: base, codec: codec)
            try numbers.withUnsafeBufferPointer { _ = try source.store.put($0, bytes) }
            return frame
        }
    }

    /// Makes what was put since the epoch `base` the next one.
    package func commit() throws {
        for source in sources.values where source.store.statistics.isPending {
            try source.store.commit(epoch: base + 1, durability: .process)
        }
    }

    /// Forgets what was put: the files are at the epoch `base` again.
    package func rollback() throws {
        for source in sources.values { try source.store.rollback() }
    }
}

/// Why pages of frozen processes cannot be had.
package enum FrozenPagesError: Error, Sendable, CustomStringConvertible {
    /// The process does not exist here.
    case gone(pid_t)

    /// One sentence.
    package var description: String {
        switch self {
        case .gone(let process): "process \(process) of the frozen copy is gone"
        }
    }
}
