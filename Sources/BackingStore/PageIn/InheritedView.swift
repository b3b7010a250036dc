import CLinux
import Glibc
import LinuxSystem

/// What a restored process, stopped still, has of what it was to inherit.
struct InheritedView {
    var scan: MemoryScan
    private let pagemap: Descriptor
    private let expected: [Range<UInt64>]
    private var buffer: [smi_region]

    /// `pages`: what it was to inherit, sorted.
    init(_ pages: [Range<UInt64>], of pid: pid_t) throws(SyscallError) {
        scan = try MemoryScan(pid: pid)
        pagemap = try Descriptor(open: "/proc/\(pid)/pagemap", O_RDONLY)
        expected = pages
        buffer = [smi_region](repeating: smi_region(), count: pages.isEmpty ? 0 : 4096)
    }

    func mayHave(_ mapping: Mapping) -> Bool {
        let first = expected.firstIndex(endingAfter: mapping.range.lowerBound / 4096)
        return first < expected.count && expected[first].lowerBound < mapping.range.upperBound / 4096
    }

    /// Protects all that is present in a mapping, which is registered for it; returns the pages that it has inherited
    /// and not written, and all others.
    ///
    /// Where it fails, pages may have been protected that are not told of.
    mutating func look(at mapping: Mapping) throws -> (inherited: [Range<UInt64>], written: [Range<UInt64>]) {
        var found: [smi_region] = []
        try scan.written(mapping.range, isAnonymous: true, into: &found)
        let present = normalized(found.map(\.pages))
        let candidates = intersection(present, expected)
        var own: [Range<UInt64>] = []
        for range in candidates {
            let (start, end) = (range.lowerBound * 4096, range.upperBound * 4096)
            let count = smi_pagemap_exclusive(pagemap.raw, start, end, &buffer, buffer.count)
            // Whatever cannot be told counts as written.
            own += count < 0 ? [range] : buffer[..<count].map(\.pages)
        }
        let inherited = subtract(own, from: candidates)
        return (inherited, subtract(inherited, from: present))
    }
}
