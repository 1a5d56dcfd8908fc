"""The password that the page asks for where it has one; before it is given, nothing of the home is sent."""

from __future__ import annotations

import hmac
import time

import streamlit as st

WRONG_SECONDS = 1.0


def is_open(password: str) -> bool:
    """Tell whether this browser may look, and ask for the password where it may not; an empty one lets all in."""
    if not password or st.session_state.get("is_known"):
        return True
    with st.form("password"):
        given = st.text_input("Password", type="password", autocomplete="current-password")
        is_sent = st.form_submit_button("Open")
    if not is_sent:
        return False
    if hmac.compare_digest(given.encode(), password.encode()):
        st.session_state["is_known"] = True
        st.rerun()
    time.sleep(WRONG_SECONDS)  # so that guessing is slow
    st.error("That is not the password.")
    return False
