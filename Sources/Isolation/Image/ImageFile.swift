import CLinux
import Glibc
import LinuxSystem

/// Files that are said to be images.
enum ImageFile {
    /// Copies a file; its type is checked, a device or pipe is refused.
    static func copy(_ path: String, to target: String) throws {
        let source: Descriptor
        do {
            source = try Descriptor(open: path, O_RDONLY | O_NONBLOCK)
        } catch {
            throw IsolationError(.imageMissing, cause: "\(path) cannot be read: \(error)", remedy: "check the path")
        }
        var status = stat()
        try syscall("fstat", path) { fstat(source.raw, &status) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw IsolationError(
                .imageInvalid,
                cause: "\(path) is not a file",
                remedy: "give the path of an erofs file"
            )
        }
        let copy = try Descriptor(open: target, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        while true {
            let count = try syscall("read", path) { read(source.raw, buffer.baseAddress, buffer.count) }
            if count == 0 { return }
            var done = 0
            while done < count {
                let place = buffer.baseAddress.map { $0 + done }
                done += try syscall("write", target) { Glibc.write(copy.raw, place, count - done) }
            }
        }
    }

    /// Mounts an image read-only and looks at everything in it.
    ///
    /// - Throws: `imageInvalid`.
    static func inspect(_ file: String, mountPoint: String) throws {
        try checkHeader(file)
        try Directories.make(mountPoint)
        do {
            try Mounts.mount(
                file,
                on: mountPoint,
                type: "erofs",
                flags: UInt(MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC)
            )
        } catch {
            throw IsolationError(
                .imageInvalid,
                cause: "the image cannot be mounted: \(error)",
                remedy: "it is damaged, or made by a newer mkfs.erofs than this kernel reads"
            )
        }
        defer {
            try? Mounts.detachAll(mountPoint)
            rmdir(mountPoint)
        }
        do {
            try ImageTree.validate(mountPoint)
        } catch let error as SyscallError {
            throw IsolationError(
                .imageInvalid,
                cause: "the image is damaged: \(error)",
                remedy: "fetch or build it again"
            )
        }
    }

    /// Looks for erofs's superblock at byte 1024, and for all blocks that it counts.
    private static func checkHeader(_ file: String) throws {
        let image = try Descriptor(open: file, O_RDONLY)
        var status = stat()
        try syscall("fstat", file) { fstat(image.raw, &status) }
        let header = [UInt8](unsafeUninitializedCapacity: 40) { buffer, count in
            count = max(0, pread(image.raw, buffer.baseAddress, buffer.count, 1024))
        }
        var reader = ByteReader(header)
        guard reader.integer(UInt32.self) == 0xe0f5_e1e2, reader.raw(8) != nil, let bits = reader.integer(UInt8.self),
            reader.raw(23) != nil, let blocks = reader.integer(UInt32.self), (9...16).contains(bits)
        else {
            throw IsolationError(
                .imageInvalid,
                cause: "the file is no erofs image",
                remedy: "make one with 'smirun image build' or mkfs.erofs"
            )
        }
        guard Int(blocks) << Int(bits) <= status.st_size else {
            throw IsolationError(.imageInvalid, cause: "the image is cut short", remedy: "fetch or build it again")
        }
    }
}
