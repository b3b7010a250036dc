import Glibc

/// The calling process's own code and that of its libraries, as mapped from files.
package enum ProgramText {
    /// Unmaps the pages of code that have been used so far; what is used again comes back from the page cache.
    ///
    /// Starting runs through far more code than staying does, and the kernel maps 64 KB around each first use: a daemon
    /// that idles would count tens of megabytes as resident that it never looks at again. Costs a few minor faults.
    package static func letGo() {
        guard let maps = try? FileContents.string(of: "/proc/self/maps") else { return }
        for line in maps.split(separator: "\n") {
            // `55d0…-55d4… r-xp 00000000 fe:00 1234  /usr/bin/smirun`: code only, which nobody has written to.
            let fields = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
            guard fields.count == 6, fields[1] == "r-xp", fields[5].drop(while: { $0 == " " }).hasPrefix("/") else {
                continue
            }
            let bounds = fields[0].split(separator: "-").compactMap { UInt($0, radix: 16) }
            guard bounds.count == 2, let start = UnsafeMutableRawPointer(bitPattern: bounds[0]) else { continue }
            // A kernel that would not do it leaves everything as it was.
            madvise(start, Int(bounds[1] - bounds[0]), MADV_DONTNEED)
        }
    }
}
