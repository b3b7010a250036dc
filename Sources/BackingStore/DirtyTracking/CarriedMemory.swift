import Glibc
import LinuxSystem

/// Tells CRIU's preload library which memory a dump can leave out (Sources/CCriuPreload/skip_carried.c).
package enum CarriedMemory {
    /// Copies /proc/PID/smaps to `PID.smaps` of a directory, shortly before the freeze, unless that is there already.
    ///
    /// CRIU then need not walk all pages for it during the freeze (88 ms for a process of 1 GB).
    package static func copySmaps(of pid: pid_t, to directory: String) throws {
        guard access("\(directory)/\(pid).smaps", F_OK) != 0 else { return }
        try write(lockedSize(of: pid), to: "\(directory)/\(pid).locked")
        try write(try contents("/proc/\(pid)/smaps"), to: "\(directory)/\(pid).smaps")
    }

    /// Writes the mappings that the backing file of a frozen process carries to `PID.skip` of a directory.
    ///
    /// That is private memory, except locked memory and the page that each thread's stack pointer is on, which CRIU
    /// restores itself. Needs ``copySmaps(of:to:)`` first; without it nothing may be left out.
    ///
    /// - Returns: The pages, in order, of those mappings that are of files: CRIU takes them from its images only, so that
    ///   they have to be added there before the restore.
    package static func writeSkips(_ process: ProcessDirty, to directory: String) throws -> [Range<UInt64>] {
        let smaps = try contents("\(directory)/\(process.pid).smaps")
        guard try lockedSize(of: process.pid) == contents("\(directory)/\(process.pid).locked") else {
            // Memory was locked or unlocked since: neither CRIU nor we may believe the copy.
            unlink("\(directory)/\(process.pid).smaps")
            return []
        }
        let kept = normalized(locked(String(decoding: smaps, as: UTF8.self)) + stackPages(of: process.pid))
        var text = ""
        var ofFiles: [Range<UInt64>] = []
        for mapping in process.mappings where mapping.isPrivate {
            for range in subtract(kept, from: [mapping.range]) {
                text += "\(String(range.lowerBound, radix: 16))-\(String(range.upperBound, radix: 16))\n"
                if mapping.inode != 0 { ofFiles.append(range.lowerBound / 4096..<range.upperBound / 4096) }
            }
        }
        try write(Array(text.utf8), to: "\(directory)/\(process.pid).skip")
        let present = process.present ?? []
        return subtract(subtract(normalized(ofFiles), from: present), from: present)
    }

    /// Writes the shared memory that backing files carry to `shared` of a directory; no file says that there is none.
    package static func writeShared(_ objects: [SharedFlushed], to directory: String) throws {
        guard !objects.isEmpty else {
            unlink("\(directory)/shared")
            return
        }
        var text = "device \(SharedObject.device >> 32) \(SharedObject.device & 0xffff_ffff)\n"
        for object in objects.map(\.shape.object) {
            text += "\(object.kind == .segment ? "segment" : "file") \(object.inode)\n"
        }
        try write(Array(text.utf8), to: "\(directory)/shared")
    }

    /// The line of /proc/PID/status that says how much memory is locked.
    private static func lockedSize(of pid: pid_t) throws -> [UInt8] {
        let status = String(decoding: try contents("/proc/\(pid)/status"), as: UTF8.self)
        return Array((status.split(separator: "\n").first { $0.hasPrefix("VmLck:") } ?? "").utf8)
    }

    /// Addresses of mappings with the `lo` (locked) or `ht` (huge pages) flag.
    static func locked(_ smaps: String) -> [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        var current: Range<UInt64>?
        for line in smaps.split(separator: "\n") {
            if line.hasPrefix("VmFlags:") {
                let flags = line.dropFirst(8).split(separator: " ")
                if let current, flags.contains("lo") || flags.contains("ht") { result.append(current) }
            } else if let first = line.first, first.isHexDigit, !first.isUppercase {
                let bounds = line.prefix { $0 != " " }.split(separator: "-").compactMap { UInt64($0, radix: 16) }
                current = bounds.count == 2 && bounds[0] < bounds[1] ? bounds[0]..<bounds[1] : nil
            }
        }
        return result
    }

    /// The page of each thread's stack pointer, from /proc/PID/task/TID/syscall of stopped threads.
    private static func stackPages(of pid: pid_t) -> [Range<UInt64>] {
        guard let tasks = opendir("/proc/\(pid)/task") else { return [] }
        defer { closedir(tasks) }
        var pages: [Range<UInt64>] = []
        while let entry = readdir(tasks) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard let bytes = try? contents("/proc/\(pid)/task/\(name)/syscall") else { continue }
            let fields = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
            // "NUMBER ARGUMENTS… SP PC", or "-1 SP PC" outside a call.
            guard fields.count >= 3, let pointer = UInt64(fields[fields.count - 2].dropFirst(2), radix: 16) else {
                continue
            }
            pages.append(pointer & ~4095..<(pointer & ~4095) + 4096)
        }
        return pages
    }

    private static func contents(_ path: String) throws(SyscallError) -> [UInt8] {
        let file = try Descriptor(open: path, O_RDONLY)
        var result: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try syscall("read", path) { Glibc.read(file.raw, &piece, piece.count) }
            if count == 0 { return result }
            result += piece[..<count]
        }
    }

    private static func write(_ bytes: [UInt8], to path: String) throws(SyscallError) {
        let file = try Descriptor(open: path, O_WRONLY | O_CREAT | O_TRUNC)
        let count = try syscall("write", path) { Glibc.write(file.raw, bytes, bytes.count) }
        // A regular file takes everything, or its disk is full.
        guard count == bytes.count else { throw SyscallError("write", code: ENOSPC, subject: path) }
    }
}
