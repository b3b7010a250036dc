import CPageStore
import Glibc
import LinuxSystem

/// One process's memory in a file: 4 KB pages keyed by page number, with atomic epochs.
///
/// Everything put or dropped since the last ``commit(epoch:durability:quick:)`` is one epoch: after a crash the file
/// opens at the last whole one. What is read has been checked; damage is refused with the page and the offset. Format
/// and guarantees: docs/backing-store.md.
// SAFETY: the C store locks itself on every call, and the pointer never changes.
package final class PageStore: @unchecked Sendable {
    /// Bytes of one page.
    package static let pageSize = Int(SMI_PS_PAGE)

    let handle: OpaquePointer
    /// Where the file is; nil for a store on descriptors of its own.
    package let path: String?

    /// Whether pages are compressed (LZ4) where that saves an eighth or more.
    package enum Compression: Sendable { case none, lz4 }

    /// What a commit survives.
    package enum Durability: Sendable {
        /// The end of this process.
        case process
        /// The end of the machine's power (two fdatasync calls).
        case machine
    }

    /// What became of the pages of one put.
    package struct PutCounts: Sendable, Equatable {
        /// Equal to what the store held.
        package var unchanged: UInt64 = 0
        /// All zero: held without data.
        package var zero: UInt64 = 0
        /// Equal to another page: held once.
        package var duplicate: UInt64 = 0
        /// Appended to the log.
        package var stored: UInt64 = 0
    }

    init(handle: OpaquePointer, path: String?) {
        self.handle = handle
        self.path = path
    }

    /// Makes an empty store of epoch 0, replacing the file.
    package static func create(
        at path: String,
        compression: Compression = .lz4
    ) throws -> PageStore {
        let file = try Descriptor(open: path, O_RDWR | O_CREAT | O_TRUNC)
        var error = smi_ps_error()
        let flags = compression == .none ? SMI_PS_NO_COMPRESSION.rawValue : 0
        let seed = UInt64.random(in: .min ... .max)
        guard let handle = smi_ps_create(smi_ps_file_io(file.release()), seed, flags, &error) else {
            throw PageStoreError(error, path: path)
        }
        return PageStore(handle: handle, path: path)
    }

    /// Opens a store at its last whole epoch; what a crash left behind that is cut off.
    ///
    /// Throws ``PageStoreError`` for a truncated, damaged or foreign file, `SyscallError` if there is none.
    package static func open(
        at path: String,
        readOnly: Bool = false,
        compression: Compression = .lz4
    ) throws -> PageStore {
        let file = try Descriptor(open: path, readOnly ? O_RDONLY : O_RDWR)
        var error = smi_ps_error()
        let flags =
            (readOnly ? SMI_PS_READ_ONLY.rawValue : 0) | (compression == .none ? SMI_PS_NO_COMPRESSION.rawValue : 0)
        guard let handle = smi_ps_open(smi_ps_file_io(file.release()), flags, &error) else {
            throw PageStoreError(error, path: path)
        }
        return PageStore(handle: handle, path: path)
    }

    deinit {
        smi_ps_close(handle)
    }

    // MARK: pages

    /// Stores pages; `data` holds `pages.count` times 4 KB.
    @discardableResult
    package func put(_ pages: UnsafeBufferPointer<UInt64>, _ data: UnsafeRawPointer) throws(PageStoreError) -> PutCounts
    {
        var counts = smi_ps_put_counts()
        try check { smi_ps_put(handle, pages.baseAddress, data, pages.count, &counts, $0) }
        return PutCounts(
            unchanged: counts.pages.0,
            zero: counts.pages.1,
            duplicate: counts.pages.2,
            stored: counts.pages.3
        )
    }

    /// Stores one page of 4 KB.
    @discardableResult
    package func put(_ page: UInt64, _ bytes: [UInt8]) throws(PageStoreError) -> PutCounts {
        precondition(bytes.count == Self.pageSize, "a page has 4096 bytes")
        var counts = smi_ps_put_counts()
        var number = page
        try check { smi_ps_put(handle, &number, bytes, 1, &counts, $0) }
        return PutCounts(
            unchanged: counts.pages.0,
            zero: counts.pages.1,
            duplicate: counts.pages.2,
            stored: counts.pages.3
        )
    }

    /// Reads a page into a buffer of 4 KB; false if the store has none.
    package func read(_ page: UInt64, into buffer: UnsafeMutableRawPointer) throws(PageStoreError) -> Bool {
        try check { smi_ps_get(handle, page, buffer, $0) } == SMI_PS_OK.rawValue
    }

    /// Reads a page; nil if the store has none.
    package func read(_ page: UInt64) throws(PageStoreError) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: Self.pageSize)
        let result = try check { smi_ps_get(handle, page, &bytes, $0) }
        return result == SMI_PS_OK.rawValue ? bytes : nil
    }

    /// Removes the pages of a range of page numbers; returns how many there were.
    @discardableResult
    package func drop(_ range: Range<UInt64>) throws(PageStoreError) -> Int {
        try Int(check { smi_ps_drop(handle, range.lowerBound, range.upperBound - range.lowerBound, $0) })
    }

    /// Removes every page outside sorted, disjoint ranges of page numbers; returns how many there were.
    @discardableResult
    package func retain(_ ranges: [Range<UInt64>]) throws(PageStoreError) -> Int {
        let raw = ranges.map { smi_ps_range(first: $0.lowerBound, end: $0.upperBound) }
        return try Int(check { smi_ps_retain(handle, raw, raw.count, $0) })
    }

    /// The epoch in which a page last changed, `UInt64.max` while that is not committed; nil if there is no page.
    package func epoch(of page: UInt64) -> UInt64? {
        var epoch: UInt64 = 0
        return smi_ps_page_epoch(handle, page, &epoch) ? epoch : nil
    }

    /// Whether there is a page, in whatever version.
    func holds(_ page: UInt64) -> Bool { epoch(of: page) != nil }

    /// Page numbers from `first` on, in order, that changed after an epoch (0: all); at most `limit`.
    package func pages(from first: UInt64 = 0, changedAfter epoch: UInt64 = 0, limit: Int) -> [UInt64] {
        [UInt64](unsafeUninitializedCapacity: limit) { buffer, count in
            count = smi_ps_list(handle, first, epoch, buffer.baseAddress, limit)
        }
    }

    /// Those of some pages that the store does not hold, in their order.
    func absent(of pages: [UInt64]) -> [UInt64] {
        [UInt64](unsafeUninitializedCapacity: pages.count) { buffer, count in
            guard let base = buffer.baseAddress else { return }
            count = smi_ps_absent(handle, pages, pages.count, base)
        }
    }

    // MARK: epochs

    /// Makes everything since the last commit one epoch; numbers only grow.
    ///
    /// `quick` is for a commit inside a freeze: compaction and index checkpoints wait for the next commit.
    package func commit(
        epoch: UInt64,
        durability: Durability = .machine,
        quick: Bool = false
    ) throws(PageStoreError) {
        try check { smi_ps_commit(handle, epoch, flags(durability, quick: quick), $0) }
    }

    /// Forgets everything since the last commit.
    package func rollback() throws(PageStoreError) {
        try check { smi_ps_rollback(handle, $0) }
    }

    /// Moves up to `maxBytes` of live records out of sparse parts of the file; returns the bytes moved, 0 when done.
    @discardableResult
    package func compact(
        maxBytes: UInt64 = 1 << 20,
        durability: Durability = .machine
    ) throws(PageStoreError) -> Int {
        try Int(check { smi_ps_compact(handle, maxBytes, flags(durability, quick: false), $0) })
    }

    /// Copies the pages into an empty store as the same epoch: for a log that is full.
    package func copy(to other: PageStore) throws(PageStoreError) {
        try check { smi_ps_copy(handle, other.handle, $0) }
    }

    /// Figures of the store, at one moment.
    package struct Statistics: Sendable, Equatable {
        /// The last committed epoch; 0 for none.
        package let epoch: UInt64
        /// Pages held, zero pages included.
        package let pages: UInt64
        /// Of these, held without data.
        package let zeroPages: UInt64
        /// Different contents stored.
        package let contents: UInt64
        /// Bytes of records in use.
        package let liveBytes: UInt64
        /// Bytes of the file that take space.
        package let allocatedBytes: UInt64
        /// Changes wait for a commit.
        package let isPending: Bool
    }

    /// Figures of the store.
    package var statistics: Statistics {
        var raw = smi_ps_stats()
        smi_ps_get_stats(handle, &raw)
        return Statistics(
            epoch: raw.epoch,
            pages: raw.pages,
            zeroPages: raw.zero_pages,
            contents: raw.contents,
            liveBytes: raw.live_bytes,
            allocatedBytes: raw.allocated_bytes,
            isPending: raw.pending
        )
    }

    private func flags(_ durability: Durability, quick: Bool) -> UInt32 {
        (durability == .machine ? SMI_PS_SYNC.rawValue : 0) | (quick ? SMI_PS_QUICK.rawValue : 0)
    }

    @discardableResult
    func check<Result: BinaryInteger>(
        _ body: (UnsafeMutablePointer<smi_ps_error>) -> Result
    ) throws(PageStoreError) -> Result {
        var error = smi_ps_error()
        let result = body(&error)
        if result < 0 { throw PageStoreError(error, path: path) }
        return result
    }
}
