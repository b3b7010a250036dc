import CLinux
import Glibc

/// What one round found in one process.
///
/// Page numbers are addresses / 4096.
package struct ProcessDirty: Sendable {
    package let pid: pid_t
    /// Clock ticks since boot; with the pid it names a process for good.
    package let startTime: UInt64
    /// False where every present page is reported because writes cannot be tracked now (stopped, shares its memory).
    package let isTracked: Bool
    /// Pages to read again, in order.
    package let dirty: [Range<UInt64>]
    /// All pages with content, in order: whatever else a backing file holds is gone.
    ///
    /// Nil if it was not asked for.
    package let present: [Range<UInt64>]?
    package let mappings: [Mapping]
    /// For each mapping of shared memory whose writes were tracked, by its addresses: pages that may have been written.
    let sharedWritten: [Range<UInt64>: [Range<UInt64>]]

    /// The number of pages to read again.
    package var dirtyPages: Int { dirty.reduce(0) { $0 + $1.count } }
}

/// Reads pages of another process in large pieces (process_vm_readv(2)).
package enum ProcessMemoryReader {
    /// Pages read at a time: 256 KB, so that a frame of them delays more urgent ones for a moment only.
    package static let batch = 64

    /// Calls `body` with page numbers and their contents until all pages of the ranges that can be read are through.
    ///
    /// Pages that are gone meanwhile and guard pages are left out. Returns false if the process has gone.
    package static func read<Failure: Error>(
        _ pages: [Range<UInt64>],
        of pid: pid_t,
        _ body: (UnsafeBufferPointer<UInt64>, UnsafeRawPointer) throws(Failure) -> Void
    ) throws(Failure) -> Bool {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: batch * 4096, alignment: 4096)
        let numbers = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: batch)
        defer {
            buffer.deallocate()
            numbers.deallocate()
        }
        guard let bytes = buffer.baseAddress else { return true }
        let regions = pages.map {
            smi_region(start: $0.lowerBound * 4096, end: $0.upperBound * 4096, categories: 0)
        }
        var position = smi_read_position()
        while position.region < regions.count {
            let count = smi_pages_read(
                pid,
                regions,
                regions.count,
                &position,
                numbers.baseAddress,
                bytes,
                batch
            )
            guard count >= 0 else { return false }
            if count > 0 { try body(UnsafeBufferPointer(rebasing: numbers[..<count]), bytes) }
        }
        return true
    }
}
