import Glibc

/// An exclusive lock on a file (flock(2)), held until it is released or the process ends.
package final class FileLock: Sendable {
    private let file: Descriptor
    private let path: String

    private init(file: Descriptor, path: String) {
        self.file = file
        self.path = path
    }

    /// Takes the lock, waiting until the deadline; nil when another process still holds it then.
    ///
    /// The holder's pid is in the file.
    package static func take(
        _ path: String,
        before deadline: ContinuousClock.Instant = .now
    ) throws(SyscallError) -> FileLock? {
        while true {
            let file = try Descriptor(open: path, O_RDWR | O_CREAT)
            guard flock(file.raw, LOCK_EX | LOCK_NB) == 0 else {
                let code = errno
                guard code == EWOULDBLOCK || code == EINTR else {
                    throw SyscallError("flock", code: code, subject: path)
                }
                if ContinuousClock.now >= deadline { return nil }
                // flock(2) has no time limit of its own; 20 ms are nothing beside the commands that hold this lock.
                poll(nil, 0, 20)
                continue
            }
            var opened = stat()
            var named = stat()
            // Whoever held it before may have removed the file: then this is a lock on nothing.
            guard fstat(file.raw, &opened) == 0, stat(path, &named) == 0, opened.st_ino == named.st_ino else {
                continue
            }
            ftruncate(file.raw, 0)
            let text = "\(getpid())\n"
            _ = text.withCString { pwrite(file.raw, $0, text.utf8.count, 0) }
            return FileLock(file: file, path: path)
        }
    }

    /// The pid in a lock's file: who holds it, or held it last.
    package static func holder(_ path: String) -> Int32? {
        (try? FileContents.string(of: path)).flatMap { Int32($0.split(separator: "\n").first ?? "") }
    }

    /// Removes the file while holding the lock, so that nothing is left of it.
    package func removeFile() {
        unlink(path)
    }

    /// Gives the lock up.
    package func release() {
        file.close()
    }
}
