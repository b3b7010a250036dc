import LinuxSystem

extension SandboxHost {
    func closeCriu(_ user: String) {}
    func hasWholeCut(_ user: String) -> Bool { false }
}
