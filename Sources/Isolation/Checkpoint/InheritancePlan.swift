import Glibc
import LinuxSystem

/// Memory of swrk that a process may inherit: pages of the process, and where the first of them lies in swrk.
package struct InheritedRegion: Sendable, Equatable {
    /// Numbers of pages of 4 KB in the process.
    package let pages: Range<UInt64>
    /// Address in swrk, bytes.
    package let source: UInt64

    /// Pages at an address.
    package init(pages: Range<UInt64>, source: UInt64) {
        self.pages = pages
        self.source = source
    }
}

/// Says in the images which mappings the tasks inherit, as Sources/CCriuPreload/inherit.c reads it.
///
/// A mapping is inherited whole, with what swrk has of its pages; those that it does not have are missing, as they would
/// be without.
package enum InheritancePlan {
    /// Writes it for the processes of a cut that have regions.
    ///
    /// Blocks. `isWanted` is asked whether there are pages for a mapping that could be inherited.
    /// - Returns: the pages of the mappings that are inherited, by process.
    package static func write(
        _ regions: [Int32: [InheritedRegion]],
        images: String,
        isWanted: (Int32, Range<UInt64>) -> Bool
    ) throws -> [Int32: [Range<UInt64>]] {
        var inherited: [Int32: [Range<UInt64>]] = [:]
        let spans = try spans(regions, images: images)
        try FileContents.replace(images + "/inherit", with: Array(spans.utf8))
        for (process, regions) in regions {
            let path = images + "/mm-\(process).img"
            guard let mappings = mappings(of: try FileContents.bytes(of: path)) else { throw damaged(path) }
            let plan = Plan(mappings, regions) { isWanted(process, $0) }
            inherited[process] = plan.inherited
            try FileContents.replace(images + "/inherit-\(process)", with: Array(plan.text.utf8))
        }
        return inherited
    }

    /// What each fork has to copy: what its task may inherit, and what the task's descendants may; nothing is of length 0.
    private static func spans(_ regions: [Int32: [InheritedRegion]], images: String) throws -> String {
        let path = images + "/pstree.img"
        guard let records = CriuImage.records(of: try FileContents.bytes(of: path)) else { throw damaged(path) }
        var parents: [Int32: Int32] = [:]
        for record in records {
            guard let entry = ProtobufMessage(record), let process = entry.integer(1), let parent = entry.integer(2)
            else { throw damaged(path) }
            parents[Int32(truncatingIfNeeded: process)] = Int32(truncatingIfNeeded: parent)
        }
        // Whoever is not named is a helper of CRIU's.
        var text = parents.keys.sorted().map { "\($0) 0 0\n" }.joined()
        for (process, regions) in regions {
            let places = regions.map { region in
                let (start, length) = (region.source, UInt64(region.pages.count) * 4096)
                return " \(String(start, radix: 16)) \(String(length, radix: 16))\n"
            }
            var task = process
            for _ in parents where parents[task] != nil {
                text += places.map { "\(task)" + $0 }.joined()
                task = parents[task] ?? 0
            }
        }
        return text
    }

    /// Takes what an earlier `write` has left away.
    package static func remove(images: String) {
        for name in Directories.entries(of: images) where name.hasPrefix("inherit") { unlink(images + "/" + name) }
    }

    // MARK: CRIU's list of mappings (vma.proto and image.h of CRIU 4.2)

    struct Mapped: Equatable {
        let start: UInt64
        let end: UInt64
        let protection: Int
        let flags: Int
        let status: Int

        private static let regular = 1
        private static let ofFile = 1 << 6
        private static let anonymous = 1 << 9
        private static let ring = 1 << 13
        private static let shadowStack = 1 << 15
        private static let guardPages = 1 << 16
        private static let ofPlugin = 1 << 27
        private static let endOfTask: UInt64 = 0x7fff_ffff_f000

        /// CRIU reserves room for it.
        var isPrivate: Bool {
            if status & (Self.ring | Self.shadowStack) != 0 { return true }
            return status & Self.regular != 0 && status & (Self.ofFile | Self.anonymous) != 0 && end <= Self.endOfTask
        }
        /// CRIU makes it in that room.
        var isMade: Bool {
            isPrivate && status & (Self.guardPages | Self.ofPlugin) == 0 && flags & Int(MAP_HUGETLB) == 0
        }
        /// What swrk maps is just the same.
        var isPlain: Bool {
            isMade && status & (Self.ring | Self.shadowStack | Self.ofFile) == 0
                && flags == Int(MAP_PRIVATE | MAP_ANONYMOUS)
        }
    }

    static func mappings(of image: [UInt8]) -> [Mapped]? {
        guard let record = CriuImage.records(of: image)?.first, let entries = ProtobufMessage(record)?.messages(14)
        else { return nil }
        let mappings = entries.compactMap { entry -> Mapped? in
            guard let start = entry.integer(1), let end = entry.integer(2), let protection = entry.integer(5),
                let flags = entry.integer(6), let status = entry.integer(7), start < end
            else { return nil }
            return Mapped(
                start: UInt64(bitPattern: Int64(start)),
                end: UInt64(bitPattern: Int64(end)),
                protection: protection,
                flags: flags,
                status: status
            )
        }
        return mappings.count == entries.count ? mappings : nil
    }

    /// What is said of one process.
    struct Plan {
        var inherited: [Range<UInt64>] = []
        var text: String

        init(_ mappings: [Mapped], _ regions: [InheritedRegion], isWanted: (Range<UInt64>) -> Bool) {
            let total = mappings.filter(\.isPrivate).reduce(0) { $0 + ($1.end - $1.start) }
            text = "total \(String(total, radix: 16))\n"
            for mapping in mappings where mapping.isMade {
                let pages = mapping.start / 4096..<mapping.end / 4096
                var source: UInt64 = 0
                if mapping.isPlain, let region = regions.first(where: { $0.pages.contains(pages) }), isWanted(pages) {
                    source = region.source + (pages.lowerBound - region.pages.lowerBound) * 4096
                    inherited.append(pages)
                }
                let numbers = [Int(mapping.end - mapping.start), mapping.protection, mapping.flags, Int(source)]
                text += numbers.map { String($0, radix: 16) }.joined(separator: " ") + "\n"
            }
        }
    }

    private static func damaged(_ path: String) -> IsolationError {
        IsolationError(
            .restoreFailed,
            cause: "\(path) is not a list of mappings as CRIU 4.2 writes it",
            remedy: "scripts/install-criu installs a CRIU that is known"
        )
    }
}
