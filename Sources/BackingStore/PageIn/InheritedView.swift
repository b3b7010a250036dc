import CLinux
import Glibc
import LinuxSystem

/// What a restored process, stopped still, has of what it was to inherit.
struct InheritedView {
    var scan: MemoryScan
    private let expected: [Range<UInt64>]

    /// `pages`: what it was to inherit, sorted.
    init(_ pages: [Range<UInt64>], of pid: pid_t) throws(SyscallError) {
        scan = try MemoryScan(pid: pid)
        expected = pages
    }

    func mayHave(_ mapping: Mapping) -> Bool {
        expected.overlap(mapping.range.lowerBound / 4096..<mapping.range.upperBound / 4096)
    }

    /// Protects all that is present in a mapping, which is registered for it; returns the pages that it was to inherit,
    /// and all others.
    ///
    /// Where it fails, pages may have been protected that are not told of.
    mutating func look(at mapping: Mapping) throws -> (inherited: [Range<UInt64>], others: [Range<UInt64>]) {
        var found: [smi_region] = []
        try scan.written(mapping.range, isAnonymous: true, into: &found)
        let present = normalized(found.map(\.pages))
        let inherited = intersection(present, expected)
        return (inherited, subtract(inherited, from: present))
    }

    /// Those of some inherited pages that nobody else has mapped any more: they were written since.
    static func written(_ pages: [Range<UInt64>], by pid: pid_t) throws(SyscallError) -> [Range<UInt64>] {
        let pagemap = try Descriptor(open: "/proc/\(pid)/pagemap", O_RDONLY)
        var buffer = [smi_region](repeating: smi_region(), count: 4096)
        var written: [Range<UInt64>] = []
        for span in spans(of: pages) {
            let (start, end) = (span.lowerBound * 4096, span.upperBound * 4096)
            let count = smi_pagemap_exclusive(pagemap.raw, start, end, &buffer, buffer.count)
            // Whatever cannot be told counts as written.
            written += count < 0 ? [span] : buffer[..<count].map(\.pages)
        }
        return intersection(normalized(written), pages)
    }

    /// Ranges that have all of some in them: looking at a few pages more takes less than to ask once more.
    private static func spans(of pages: [Range<UInt64>]) -> [Range<UInt64>] {
        var spans: [Range<UInt64>] = []
        for range in pages {
            if let last = spans.last, range.lowerBound - last.upperBound <= 512 {
                spans[spans.count - 1] = last.lowerBound..<range.upperBound
            } else {
                spans.append(range)
            }
        }
        return spans
    }
}
