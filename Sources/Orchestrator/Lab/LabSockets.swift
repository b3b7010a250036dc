import Foundation
import LinuxSystem

/// The command line's default sockets on this machine: links to those of the lab's first host.
extension Lab {
    /// Points the default sockets at the first host; each link is replaced in one step.
    func linkSockets(_ record: LabRecord) throws(LabError) {
        guard let holder = record.hosts.first?.holder else { return }
        for name in LabLayout.sockets {
            let link = layout.run + "/" + name
            let temporary = link + ".new"
            unlink(temporary)
            try during("setting the default socket") { () throws(SyscallError) in
                try syscall("symlink", temporary) { symlink(layout.reach(name, holder: holder.pid), temporary) }
                try syscall("rename", link) { rename(temporary, link) }
            }
        }
    }

    /// Removes the links, and only those that a lab made.
    func unlinkSockets() {
        for name in LabLayout.sockets {
            let link = layout.run + "/" + name
            if isLabs(link, name) { unlink(link) }
            unlink(link + ".new")
        }
    }

    /// Refuses to hide the sockets of a host agent that this machine runs itself.
    func requireFreeSockets() throws(LabError) {
        for name in LabLayout.sockets {
            let path = layout.run + "/" + name
            var entry = stat()
            guard lstat(path, &entry) == 0, !isLabs(path, name) else { continue }
            throw LabError(
                .alreadyUp,
                cause: "\(path) exists: this machine is, or was, a host itself",
                remedy: "stop its daemon and remove that file, then run `smirun lab up` again"
            )
        }
    }

    private func isLabs(_ path: String, _ name: String) -> Bool {
        guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path) else { return false }
        let words = target.split(separator: "/", maxSplits: 2)
        return words.count == 3 && words[0] == "proc" && words[1].allSatisfy(\.isNumber)
            && words[2] == "root\(layout.run)/\(name)"
    }
}
