import CLinux
import Glibc
import LinuxSystem

/// The pagemap of one process, open for one round (an exec replaces the memory it is about).
struct MemoryScan {
    /// Bytes scanned at a time: the kernel holds the process's mmap lock while it scans.
    private static let piece: UInt64 = 32 << 20

    private let pagemap: Descriptor
    private var buffer = [smi_region](repeating: smi_region(), count: 512)

    init(pid: pid_t) throws(SyscallError) {
        pagemap = try Descriptor(open: "/proc/\(pid)/pagemap", O_RDONLY)
    }

    /// Private pages with content in a mapping, appended to `regions`.
    mutating func present(_ mapping: Mapping, into regions: inout [smi_region]) throws(SyscallError) {
        try scan(mode(SMI_SCAN_PRESENT, isAnonymous: mapping.inode == 0), mapping.range, into: &regions)
    }

    /// Pages written since the last such scan, appended to `regions`, and protected again.
    ///
    /// `isAnonymous`: none of it is of a file.
    ///
    /// Where it fails midway, pages may have been protected without having been reported: the caller has to take every
    /// present page of the range as written.
    mutating func written(
        _ range: Range<UInt64>,
        isAnonymous: Bool,
        into regions: inout [smi_region]
    ) throws(SyscallError) {
        try scan(mode(SMI_SCAN_WRITTEN, isAnonymous: isAnonymous), range, into: &regions)
    }

    /// Pages of shared memory that may have been written since the last such scan, appended to `regions`.
    mutating func sharedWritten(_ range: Range<UInt64>, into regions: inout [smi_region]) throws(SyscallError) {
        try scan(SMI_SCAN_SHARED.rawValue, range, into: &regions)
    }

    private func mode(_ mode: smi_scan_mode, isAnonymous: Bool) -> UInt32 {
        isAnonymous ? mode.rawValue | SMI_SCAN_ANONYMOUS.rawValue : mode.rawValue
    }

    private mutating func scan(
        _ mode: UInt32,
        _ range: Range<UInt64>,
        into regions: inout [smi_region]
    ) throws(SyscallError) {
        var start = range.lowerBound
        while start < range.upperBound {
            let end = min(range.upperBound, start + Self.piece)
            var stopped = end
            let count = smi_pagemap_scan(
                pagemap.raw,
                Int32(mode),
                start,
                end,
                &buffer,
                buffer.count,
                &stopped
            )
            guard count >= 0 else { throw SyscallError("ioctl", code: Int32(-count), subject: "pagemap") }
            for region in buffer[..<count] {
                if let last = regions.last, last.end == region.start, last.categories == region.categories {
                    regions[regions.count - 1].end = region.end
                } else {
                    regions.append(region)
                }
            }
            // The vector may have been full.
            start = max(stopped, start + 4096)
        }
    }
}
