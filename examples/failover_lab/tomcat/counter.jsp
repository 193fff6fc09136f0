<%@ page contentType="application/json" session="false" trimDirectiveWhitespaces="true" %>
<%--
  The session counter as a page: what benches/k6/failover.js asks of a node. It answers to the paths
  of the playground, which web.xml maps here.
--%>
<%
String path = request.getServletPath();
boolean creates = path.equals("/login") || path.equals("/update");
HttpSession session = request.getSession(creates);
StringBuilder json = new StringBuilder("{\"node\":\"").append(System.getProperty("lab.node")).append('"');
json.append(",\"session\":").append(session != null);
if (path.equals("/login")) {
    String uid = request.getParameter("uid");
    if (uid == null || !uid.matches("[A-Za-z0-9-]{1,64}")) {
        response.sendError(400);
        return;
    }
    if (!session.isNew()) {
        request.changeSessionId();
    }
    session.setAttribute("uid", uid);
} else if (path.equals("/update")) {
    synchronized (session) {
        Long before = (Long) session.getAttribute("session_counter");
        long n = before == null ? 1 : before + 1;
        session.setAttribute("session_counter", n);
        json.append(",\"n\":").append(n);
    }
} else if (path.equals("/info")) {
    Object uid = session == null ? null : session.getAttribute("uid");
    json.append(",\"uid\":").append(uid == null ? "null" : "\"" + uid + "\"");
} else if (path.equals("/get")) {
    json.append(",\"value\":").append(session == null ? null : session.getAttribute("session_counter"));
}
out.print(json.append('}'));
%>
