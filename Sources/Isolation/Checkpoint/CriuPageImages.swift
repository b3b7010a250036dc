import Glibc
import LinuxSystem

/// Adds pages to the images of a cut that CRIU left them out of: those of private mappings of files, which it restores
/// from its images only, never through a page server.
///
/// `pagemap-PID.img` lists runs of pages, in order of address; `pages-ID.img` has their contents in the same order
/// (criu.org/Images; fields of CRIU 4.2's pagemap.proto).
package enum CriuPageImages {
    /// A run of pages, and where its contents come from.
    private struct Run {
        var pages: Range<UInt64>
        /// Offset in the present pages file; nil for pages that are added.
        var offset: UInt64?
        var flags = CriuPageImages.present
    }

    /// The flag of pages that are in the pages file; another one, "can be lazy", says nothing here.
    private static let present = 4

    /// Adds pages (sorted ranges of page numbers) of the process with this number inside the sandbox.
    ///
    /// `read` puts a page's contents into a buffer of 4 KB. Pages that the images have already stay as they are.
    package static func add(
        _ pages: [Range<UInt64>],
        of process: Int32,
        images: String,
        read: (UInt64, UnsafeMutableRawPointer) throws -> Void
    ) throws {
        guard !pages.isEmpty else { return }
        try add(pages, list: images + "/pagemap-\(process).img", images, read)
    }

    /// Adds pages (of the object, not of an address space) of shared memory, known by its inode at the dump.
    ///
    /// Where CRIU has written no list for it, it does not restore it either.
    package static func add(
        _ pages: [Range<UInt64>],
        ofShared inode: UInt64,
        images: String,
        read: (UInt64, UnsafeMutableRawPointer) throws -> Void
    ) throws {
        let list = images + "/pagemap-shmem-\(inode).img"
        guard !pages.isEmpty, access(list, F_OK) == 0 else { return }
        try add(pages, list: list, images, read)
    }

    private static func add(
        _ pages: [Range<UInt64>],
        list pagemap: String,
        _ images: String,
        _ read: (UInt64, UnsafeMutableRawPointer) throws -> Void
    ) throws {
        let (header, head, old) = try parse(try FileContents.bytes(of: pagemap), path: pagemap)
        guard let id = ProtobufMessage(head)?.integer(1) else { throw damaged(pagemap) }
        let runs = merged(old, with: pages)
        let data = images + "/pages-\(id).img"
        let whole = data + ".new"
        let from = try Descriptor(open: data, O_RDONLY | O_CREAT)
        let to = try Descriptor(open: whole, O_WRONLY | O_CREAT | O_TRUNC)
        var buffer = [UInt8](repeating: 0, count: 64 * 4096)
        for run in runs { try copy(run, from, to, &buffer, read) }
        try syscall("rename", data) { rename(whole, data) }
        try FileContents.replace(pagemap, with: header + record(head) + runs.flatMap { record(entry($0)) })
    }

    // MARK: The list

    private static func parse(_ bytes: [UInt8], path: String) throws -> ([UInt8], [UInt8], [Run]) {
        guard let records = CriuImage.records(of: bytes), let head = records.first else { throw damaged(path) }
        var offset: UInt64 = 0
        let runs = try records.dropFirst().map { record in
            guard let entry = ProtobufMessage(record), let address = entry.integer(1),
                let count = entry.integer(5) ?? entry.integer(2), count > 0,
                let flags = entry.integer(4), flags & present != 0
            else { throw damaged(path) }
            let first = UInt64(bitPattern: Int64(address)) / 4096
            defer { offset += UInt64(count) * 4096 }
            return Run(pages: first..<first + UInt64(count), offset: offset, flags: flags)
        }
        return (Array(bytes[..<CriuImage.headerSize]), head, runs)
    }

    /// All runs in order of address; where old and new meet, the old one counts.
    private static func merged(_ old: [Run], with pages: [Range<UInt64>]) -> [Run] {
        var result: [Run] = []
        var next = 0
        for range in pages {
            var start = range.lowerBound
            while start < range.upperBound {
                while next < old.count, old[next].pages.upperBound <= start {
                    result.append(old[next])
                    next += 1
                }
                let end =
                    next < old.count ? min(range.upperBound, max(start, old[next].pages.lowerBound)) : range.upperBound
                if start < end { result.append(Run(pages: start..<end, offset: nil)) }
                start = end
                if start < range.upperBound { start = min(range.upperBound, old[next].pages.upperBound) }
            }
        }
        return result + old[next...]
    }

    private static func entry(_ run: Run) -> [UInt8] {
        var entry = ProtobufWriter()
        entry.integer(1, Int(truncatingIfNeeded: run.pages.lowerBound * 4096))
        entry.integer(2, run.pages.count)
        entry.integer(4, run.flags)
        entry.integer(5, run.pages.count)
        return entry.bytes
    }

    private static func record(_ bytes: [UInt8]) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: bytes.count >> (8 * $0)) } + bytes
    }

    // MARK: The contents

    private static func copy(
        _ run: Run,
        _ from: Descriptor,
        _ to: Descriptor,
        _ buffer: inout [UInt8],
        _ read: (UInt64, UnsafeMutableRawPointer) throws -> Void
    ) throws {
        var done = 0
        while done < run.pages.count {
            let count = min(64, run.pages.count - done)
            let first = run.pages.lowerBound + UInt64(done)
            try buffer.withUnsafeMutableBytes { bytes in
                guard let base = bytes.baseAddress else { return }
                if let offset = run.offset {
                    let got = pread(from.raw, base, count * 4096, off_t(offset) + off_t(done * 4096))
                    guard got == count * 4096 else { throw SyscallError("pread", code: EIO, subject: "CRIU's pages") }
                } else {
                    for i in 0..<count { try read(first + UInt64(i), base + i * 4096) }
                }
                let put = Glibc.write(to.raw, base, count * 4096)
                guard put == count * 4096 else {
                    throw SyscallError("write", code: put < 0 ? errno : ENOSPC, subject: "CRIU's pages")
                }
            }
            done += count
        }
    }

    private static func damaged(_ path: String) -> IsolationError {
        IsolationError(
            .restoreFailed,
            cause: "\(path) is not a list of pages as CRIU 4.2 writes it",
            remedy: "scripts/install-criu installs a CRIU that is known"
        )
    }
}
